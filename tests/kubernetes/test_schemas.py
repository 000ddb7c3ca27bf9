"""Every object of every overlay against the schemas of its kind, without a server; and what they catch, and miss."""

import subprocess
import tarfile
from pathlib import Path

import pytest
from kube_rendered import OVERLAYS, rendered_text, resources

pytestmark = [pytest.mark.kube, pytest.mark.usefixtures("kubectl_here")]
_PACKED = Path(__file__).with_name("schemas.tar.xz")
_TEMPLATE = "{{.ResourceKind}}_{{.Group}}_{{.ResourceAPIVersion}}.json"


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of schemas, unpacked."""
    folder = tmp_path_factory.mktemp("schemas")
    with tarfile.open(_PACKED) as archive:
        archive.extractall(folder, filter="data")
    return folder


def _conform(schemas: Path, text: str, kubeconform: Path) -> tuple[int, str]:
    command = [str(kubeconform), "-strict", "-summary", f"-schema-location={schemas}/{_TEMPLATE}"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_as_its_schema_says(schemas: Path, overlay: str, kubeconform_here: Path) -> None:
    code, said = _conform(schemas, rendered_text(overlay), kubeconform_here)
    assert code == 0, said
    count = len(resources(overlay))
    assert f"{count} resource" in said and f"Valid: {count}" in said, said


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("terminationGracePeriodSeconds:", "terminationGraceSeconds:"),
        ("concurrencyPolicy: Forbid", "concurrencyPolicy: [Forbid]"),
        ("operations:", "operation:"),
        ("partitions: 8", "partitions: eight"),
        ("secretStoreRef:", "secretStore:"),
        ("podMetricsEndpoints:", "endpoints:"),
        ("replicas: 2", 'replicas: "2"'),
    ],
)
def test_what_is_misspelt_or_of_another_type_is_found(
    schemas: Path, was: str, becomes: str, kubeconform_here: Path
) -> None:
    assert was in rendered_text("prod")
    code, said = _conform(schemas, rendered_text("prod").replace(was, becomes), kubeconform_here)
    assert code == 1, said
