"""The whole platform in one process with models of a store: shadow beside champion, promotion, and the way back."""

import gzip
import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest
from captures import USDM_20240808
from model_artefacts import KEY, small_spec
from release_train import released
from set_policies import weights

from agents.decider.encoding import CONTEXT_FEATURES, SCHEMA, VOTE_FEATURES
from infra.artefacts import write_artefact
from infra.settings import load_settings
from schemas.decisions import Decision, OrderApproved
from schemas.event import Event
from schemas.feedback import Experience, ModelRelease, ReleaseStage
from streams.composition import compose
from streams.offline.backtest import Backtest

pytestmark = pytest.mark.slow

SETTINGS = Path(__file__).resolve().parents[3] / "tradermind.toml"
SECONDS = 40.0
PLAN = (
    (10, "second", ReleaseStage.SHADOW),
    (20, "second", ReleaseStage.CHAMPION),
    (30, "second", ReleaseStage.RETIRED),
)


def _model(store: Path, name: str, seed: int) -> str:
    spec = msgspec.structs.replace(small_spec(VOTE_FEATURES, CONTEXT_FEATURES, name), schema=SCHEMA)
    return write_artefact(store, weights(seed), spec, KEY)


def _told(store: Path, *, evil: bool = False) -> list[Event]:
    first, second = _model(store, "first", 1), _model(store, "second", 2)
    if evil:
        weighed = store / second / "weights.safetensors"
        weighed.write_bytes(weighed.read_bytes()[:-4] + b"evil")
    values: dict[str, Any] = {
        "models.directory": str(store),
        "models.champion": first,
        "models.loss_max": 10,
        "models.watch_inputs": False,
        "strategies.committee.policy": "champion",
        "strategies.committee.horizon_s": 1,
        "strategies.pulse.instruments": ["EXT:DEMO"],
    }
    seen: list[Event] = []
    test = Backtest(compose(load_settings(SETTINGS, values, environment={})), seen.append)
    plan = list(PLAN)
    begun = None
    for record in test.records(SECONDS):
        test.take(record)
        now_ns = record.events[-1].available_at_ns if record.events else 0
        begun = now_ns if begun is None else begun
        while plan and now_ns - begun >= plan[0][0] * 1_000_000_000:
            _, name, stage = plan.pop(0)
            times = {"event_time_ns": now_ns, "available_at_ns": now_ns}
            test.pipeline.publish(released(name, stage, second, **times))
    test.close()
    return seen


def _of(seen: list[Event], kind: type) -> list[Any]:
    return [event for event in seen if isinstance(event, kind)]


def _encoded(seen: list[Event]) -> list[bytes]:
    return [msgspec.msgpack.encode(event) for event in seen]


def test_models_come_and_go_and_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    seen = _told(tmp_path)
    assert _encoded(_told(tmp_path)) == _encoded(seen)
    decisions = _of(seen, Decision)
    own = [item for item in decisions if item.policy_stage == "CHAMPION"]
    shadows = [item for item in decisions if item.policy_stage == "SHADOW"]
    changes = [name for name, _ in itertools.groupby(item.policy for item in own)]
    assert changes == ["first", "second", "first"]
    assert {item.policy for item in shadows} == {"second"}
    asked = {item.tally_id for item in own if item.policy == "first"}
    assert len(shadows) > 10
    assert {item.tally_id for item in shadows} <= asked
    cited = {item.decision_id for item in _of(seen, OrderApproved)} | {
        item.decision_id for item in _of(seen, Experience)
    }
    assert cited
    assert cited.isdisjoint(item.decision_id for item in shadows)


def test_an_evil_artefact_is_answered_and_never_asked(tmp_path: Path) -> None:
    seen = _told(tmp_path, evil=True)
    answers = [
        (item.model, item.release_stage, item.reason) for item in _of(seen, ModelRelease) if item.author == "decider"
    ]
    assert answers == [("second", ReleaseStage.RETIRED, "ARTEFACT_REFUSED")] * 2
    assert {item.policy for item in _of(seen, Decision)} == {"first"}


def _decided(feed: dict[str, Any], seconds: float) -> set[tuple[str, str | None, str | None]]:
    """Return by whom the shipped settings' committee was decided, and whom it withheld for what."""
    seen: list[Event] = []
    test = Backtest(compose(load_settings(SETTINGS, feed, environment={})), seen.append)
    for record in test.records(seconds):
        test.take(record)
    test.close()
    own = [item for item in _of(seen, Decision) if item.strategy == "committee"]
    assert len(own) > 5
    return {(item.policy, item.withheld, item.withheld_for) for item in own}


def test_the_shipped_champion_decides_on_the_simulated_market_and_the_fallback_on_a_capture(tmp_path: Path) -> None:
    path = tmp_path / USDM_20240808.name
    with gzip.open(USDM_20240808, "rb") as whole, gzip.open(path, "wb", compresslevel=1) as part:
        part.writelines(itertools.islice(whole, 1_500))
    capture = {"run.clock": "capture", "feed.kind": "capture", "feed.paths": [str(path)]}
    assert _decided({}, 20.0) == {("champion", None, None)}
    assert _decided(capture, 0.0) == {("baseline", "champion", "OUTSIDE_TRAINING")}
    everywhere = capture | {"models.act_outside_training": True}
    assert _decided(everywhere, 0.0) == {("champion", None, None)}
