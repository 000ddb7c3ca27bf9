"""``tradermind train`` without its extra: one sentence that says what to do, and exit code 2."""

import subprocess
import sys

import pytest

WITHOUT = "import sys; sys.modules[{missing!r}] = None; from streams.cli import app; app(['train'])"


@pytest.mark.parametrize("missing", ["torch", "sb3_contrib"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    code = WITHOUT.format(missing=missing)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert missing in ended.stderr
    assert "make setup-train" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert not ended.stdout
