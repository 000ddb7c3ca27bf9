"""What of ``deploy/k8s`` is made from the code: topics and users of Kafka, and the rules of Prometheus.

``python -m infra.kubernetes`` writes the files, ``--check`` says which are not what it would write.
"""

from infra.kubernetes.generated import DEPLOY, generated_files, stale_files

__all__ = ["DEPLOY", "generated_files", "stale_files"]
