"""A demo's flags as settings."""

from pathlib import Path

import pytest

from infra.settings import SettingsError, load_settings
from streams.composition import STAGES
from streams.demo.plan import DEFAULT_DURATION_S, WORKER_GROUPS, DemoPlan, worker_groups

SETTINGS = Path(__file__).resolve().parents[3] / "tradermind.toml"


def test_without_flags_it_is_a_minute_of_the_simulated_market() -> None:
    plan = DemoPlan(directory=Path("run"))
    assert not plan.on_capture
    assert plan.lasts_s == DEFAULT_DURATION_S
    assert plan.overrides() == {"run.directory": "run", "run.seed": 7, "feed.kind": "simulated"}


def test_a_capture_brings_its_own_clock_and_lasts_to_its_end() -> None:
    plan = DemoPlan(directory=Path("run"), feed="a.gz,b.gz", speed="max")
    values = plan.overrides()
    assert plan.lasts_s is None
    assert DemoPlan(directory=Path("run"), feed="a.gz", duration_s=5).lasts_s == 5
    assert (values["feed.kind"], values["run.clock"], values["feed.speed"]) == ("capture", "capture", "max")
    assert values["feed.paths"] == [str(Path("a.gz").resolve()), str(Path("b.gz").resolve())]


def test_a_live_feed_runs_by_the_wall_clock() -> None:
    plan = DemoPlan(directory=Path("run"), feed="binance")
    assert "run.clock" not in plan.overrides()
    assert plan.lasts_s == DEFAULT_DURATION_S


def test_a_speed_is_a_number_or_max() -> None:
    assert DemoPlan(directory=Path("run"), feed="a.gz", speed="2.5").overrides()["feed.speed"] == 2.5
    with pytest.raises(SettingsError, match="fast"):
        DemoPlan(directory=Path("run"), feed="a.gz", speed="fast").overrides()


def test_the_policy_is_the_committees_and_more_stands_last() -> None:
    plan = DemoPlan(directory=Path("run"), policy="probe", more=(("run.seed", 9),))
    settings = load_settings(SETTINGS, plan.overrides(), environment={})
    assert settings.strategies["committee"].policy == "probe"
    assert settings.run.seed == 9


def test_the_processes_host_every_stage_once_and_readers_start_first() -> None:
    hosted = [stage for group in WORKER_GROUPS for stage in group]
    assert len(hosted) == len(set(hosted))
    assert {stage for stage in STAGES if stage not in ("ingress", "trainer")} | {"sinks"} == set(hosted)
    assert hosted[0] == "sinks"
    assert hosted[-1] == "ingestion"


def test_a_trainer_is_one_process_more_and_trains_within_a_minute() -> None:
    assert worker_groups(trainer=False) == WORKER_GROUPS
    assert sorted({*worker_groups(trainer=True)} - {*WORKER_GROUPS}) == [("trainer",)]
    plan = DemoPlan(directory=Path("run"), trainer=True)
    trainer = load_settings(SETTINGS, plan.overrides(), environment={}).trainer
    assert trainer.enabled
    assert trainer.interval_ms < DEFAULT_DURATION_S * 1000 / 2
    assert not load_settings(SETTINGS, DemoPlan(directory=Path("run")).overrides(), environment={}).trainer.enabled
