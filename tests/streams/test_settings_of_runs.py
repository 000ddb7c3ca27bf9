"""A run's settings are those of the file that it was started with, under what it says of itself."""

import json
from pathlib import Path

from streams.processes import settings_of_run


def test_a_run_says_which_file_it_was_started_with(tmp_path: Path) -> None:
    text = Path("tradermind.toml").read_text()
    (tmp_path / "own.toml").write_text(text.replace("step_ms = 1000 ", "step_ms = 500 "))
    run_file = tmp_path / "run.json"
    said = {"overrides": {"run.seed": 5}}
    run_file.write_text(json.dumps(said))
    assert settings_of_run(run_file, None).grid.step_ms == 1000
    run_file.write_text(json.dumps({**said, "settings": str(tmp_path / "own.toml")}))
    for found in (settings_of_run(run_file, None), settings_of_run(run_file, tmp_path / "own.toml")):
        assert (found.grid.step_ms, found.run.seed) == (500, 5)
    assert settings_of_run(run_file, Path("tradermind.toml")).grid.step_ms == 1000
    assert settings_of_run(None, tmp_path / "own.toml").run.seed == 1
