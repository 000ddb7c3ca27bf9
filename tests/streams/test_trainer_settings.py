"""What the trainer's worker refuses before it begins, and which of its settings name a run."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.settings import SettingsError, load_settings
from schemas.topics import MODEL_RELEASE, RL_EXPERIENCE
from streams.cli import app
from streams.composition import Run, compose
from streams.launch import TRAINER, WORKERS, stage_hosting, stages_run
from streams.quarantined import readers_of
from streams.trainer import check_trainer, online_terms, trainer_directory

SETTINGS = Path(__file__).resolve().parents[2] / "tradermind.toml"


def run_with(**changes: Any) -> Run:
    values = {name.replace("__", "."): value for name, value in changes.items()}
    return compose(load_settings(SETTINGS, values, environment={}))


def test_without_the_extra_the_worker_ends_with_two_and_says_what_to_do() -> None:
    """This suite runs where torch is not installed; with it, see tests/training."""
    environment = {"TRADERMIND__KAFKA__BOOTSTRAP": "127.0.0.1:1", "TRADERMIND__POSTGRES__DSN": "host=127.0.0.1 port=1"}
    said = CliRunner().invoke(app, ["worker", "trainer", "--settings", str(SETTINGS)], env=environment)
    assert said.exit_code == 2
    assert len(said.stderr.splitlines()) == 1
    assert said.stderr.startswith("Training needs torch")
    said = CliRunner().invoke(app, ["demo", "--trainer", "--settings", str(SETTINGS)])
    assert said.exit_code == 2
    assert said.stderr.startswith("Training needs torch")


def test_candidates_that_nobody_would_load_are_not_made() -> None:
    check_trainer(run_with())
    # Without that key there is no shipped champion, either.
    own: dict[str, Any] = {"models__allow_development_key": False, "strategies__committee__policy": "baseline"}
    check_trainer(run_with(**own, trainer__key_file="own.key"))
    with pytest.raises(SettingsError, match=r"trainer\.key_file is missing"):
        check_trainer(run_with(**own))


def test_only_the_schedule_names_a_run() -> None:
    usual = run_with().settings.settings_hash()
    assert run_with(trainer__enabled=True, trainer__directory="x", trainer__nice=3).settings.settings_hash() == usual
    assert run_with(trainer__every_experiences=7).settings.settings_hash() != usual


def test_the_buffer_lies_below_the_run_unless_told_otherwise(tmp_path: Path) -> None:
    assert trainer_directory(run_with(run__directory=str(tmp_path)).settings) == tmp_path / "trainer"
    assert trainer_directory(run_with(trainer__directory=str(tmp_path / "own")).settings) == tmp_path / "own"


def test_every_strategy_has_the_budget_that_feedback_reckons_with() -> None:
    budgets = online_terms(run_with()).transitions.budgets
    assert budgets.keys() == run_with().settings.strategies.keys()
    assert budgets["committee"] == 100_000 * 80 / 100 * 5 / 100


def test_it_reads_what_the_table_of_topics_says() -> None:
    hosting = stage_hosting(run_with(), "", TRAINER)
    assert set(hosting.topics) == {RL_EXPERIENCE, MODEL_RELEASE}
    assert all("trainer" in readers_of(topic) for topic in hosting.topics)


def test_dead_letters_are_left_to_a_trainer_only_where_there_is_one() -> None:
    assert stages_run(run_with().settings) == WORKERS
    assert stages_run(run_with(trainer__enabled=True).settings) == (*WORKERS, TRAINER)
