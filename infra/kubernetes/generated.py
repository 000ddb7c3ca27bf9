"""Which files of ``deploy/k8s`` are made, out of what, and whether those that lie there are what would be made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from infra.kafka_rights import principals
from infra.kubernetes.rules import rules_yaml
from infra.kubernetes.strimzi import topics_yaml, users_yaml
from infra.settings import load_settings
from infra.topic_specs import topic_specs

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy" / "k8s"
_RULES: Final = ROOT / "deploy" / "prometheus" / "rules"
_COMPONENTS: Final = DEPLOY / "components"


def generated_files() -> dict[Path, str]:
    """Return file -> what it has to hold. Raises SettingsError for settings of the base that cannot be used."""
    settings = load_settings(DEPLOY / "base" / "tradermind.toml", environment={})
    return {
        _COMPONENTS / "strimzi" / "topics.yaml": topics_yaml(topic_specs(settings)),
        _COMPONENTS / "strimzi" / "users.yaml": users_yaml(principals().values()),
        _COMPONENTS / "monitoring" / "rules.yaml": rules_yaml(list(_RULES.glob("*.yaml"))),
    }


def stale_files(wanted: Mapping[Path, str]) -> list[Path]:
    """Return the files that are missing, or not what they have to be."""
    return [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
