"""What other teams get: the schemas as a package of its own, with its data, that imports nothing else of ours."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from schemas.codec import Codec
from schemas.dead_letters import BadRecord
from schemas.kit import Accepted, Refused, accepted_examples, asyncapi, refused_examples
from schemas.schema_table import SchemaTable
from schemas.topics import TOPICS

ROOT = Path(__file__).resolve().parents[2]
CODEC = Codec(SchemaTable.committed())
USE = """
import sys
sys.path.insert(0, sys.argv[1])
import schemas.compatibility
from schemas.codec import Codec
from schemas.kit import accepted_examples, asyncapi, refused_examples
from schemas.schema_table import SchemaTable
assert schemas.__file__.startswith(sys.argv[1]), schemas.__file__
codec = Codec(SchemaTable.committed())
read = [codec.decode(example.topic, example.framed) for example in accepted_examples()]
assert asyncapi()["asyncapi"] == "3.0.0"
theirs = {"agents", "infra", "streams", "faust", "aiokafka", "confluent_kafka", "aiohttp", "pydantic", "numpy"}
print(len(read), len(list(refused_examples())), sorted(theirs & set(sys.modules)))
"""


@pytest.mark.parametrize("example", tuple(accepted_examples()), ids=lambda example: f"{example.topic}-{example.record}")
def test_a_good_example_is_read(example: Accepted) -> None:
    event = CODEC.decode(example.topic, example.framed)
    assert CODEC.encode(example.topic, event) == example.framed


@pytest.mark.parametrize("example", tuple(refused_examples()), ids=lambda example: example.why)
def test_a_bad_example_is_refused_with_its_reason(example: Refused) -> None:
    with pytest.raises(BadRecord) as refused:
        CODEC.decode(example.topic, example.framed)
    assert refused.value.reason is example.reason


def test_the_document_is_the_committed_one() -> None:
    assert set(asyncapi()["channels"]) == set(TOPICS)


@pytest.mark.slow
def test_the_wheel_holds_the_kit_and_the_kit_needs_nothing_else_of_ours(tmp_path: Path) -> None:
    build = [str(Path(sys.executable).parent / "hatchling"), "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        kit = [name for name in archive.namelist() if name.startswith("schemas/")]
        archive.extractall(tmp_path / "kit", kit)
    committed = {
        f"schemas/{path.relative_to(ROOT / 'schemas')}"
        for path in (ROOT / "schemas").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert set(kit) == committed
    command = [sys.executable, "-I", "-c", USE, str(tmp_path / "kit")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    records = sum(len(topic.records) for topic in TOPICS.values())
    assert done.stdout.split(" ", 2)[::2] == [str(records), "[]\n"]
