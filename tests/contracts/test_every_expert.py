"""What holds for each expert, present and future: a file dropped into the package is held to all of it at once."""

import importlib
import inspect
import math
import sys
import textwrap
from pathlib import Path
from typing import Any

import msgspec
import pytest
from snapshot_stories import HORIZONS_NS, INPUTS, make_snapshot, walk

from agents.experts._contract import Assessment, Expert
from agents.experts._registry import load
from agents.experts._table import SECTIONS, sections
from agents.experts.stage import Experts, ExpertsConfig
from agents.features.state import FeatureConfig
from schemas.opinions import AbstainReason, FeatureSnapshot, Vote

EXPERTS = load()
STEPS = 150
STORY = list(walk(7, STEPS))


def assess_all(expert: Expert, snapshots: list[FeatureSnapshot], state: Any = None) -> tuple[Any, list[Assessment]]:
    state = expert.initial() if state is None else state
    assessments = []
    for snapshot in snapshots:
        state, assessment = expert.assess(state, snapshot)
        assessments.append(assessment)
    return state, assessments


def encoded(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


def first_difference(first: list[Assessment], second: list[Assessment]) -> int | None:
    """Return where two series differ to the byte, or None: a diff of all of them says less, and takes a minute."""
    pairs = zip(first, second, strict=True)
    return next((number for number, (one, other) in enumerate(pairs) if encoded(one) != encoded(other)), None)


def with_holes(snapshots: list[FeatureSnapshot], period: int) -> list[FeatureSnapshot]:
    """Null one input after the other, the mid and the book now and then, and leave out every 17th snapshot."""
    broken = []
    for step, snapshot in enumerate(snapshots):
        if step % 17 == 16:
            continue
        if step % period == period - 1:
            missing = INPUTS[(step // period) % len(INPUTS)]
            snapshot = msgspec.structs.replace(snapshot, features=snapshot.features | {missing: None})
        if step % 23 == 22:
            snapshot = msgspec.structs.replace(snapshot, mid=None, synchronised=False)
        broken.append(snapshot)
    return broken


def assert_sound(assessment: Assessment, snapshot: FeatureSnapshot) -> None:
    assert len(assessment.opinions) == len(snapshot.questions)
    for opinion in assessment.opinions:
        given = [opinion.p_down, opinion.p_flat, opinion.p_up]
        if opinion.abstained is None:
            assert all(value is not None and 0 < value < 1 for value in given)
            assert math.isclose(sum(value for value in given if value is not None), 1, abs_tol=1e-9)
        else:
            assert given == [None] * 3
        assert all(value is None or math.isfinite(value) for value in opinion.evidence.values())
        assert all(math.isfinite(value) for value in opinion.context.values())
        assert len(opinion.evidence) <= 32
    if assessment.alert is not None:
        assert math.isfinite(assessment.alert.score)


every_expert = pytest.mark.parametrize("expert", EXPERTS.values(), ids=EXPERTS)


@every_expert
def test_name_and_docstring(expert: Expert) -> None:
    module = sys.modules[type(expert).__module__]
    assert expert.name == module.__name__.rpartition(".")[2]
    assert all(sections(inspect.getdoc(module) or "")[section] for section in SECTIONS)
    assert expert.state_type.__struct_config__.frozen
    assert isinstance(expert.initial(), expert.state_type)


@every_expert
def test_the_same_input_gives_the_same_bytes(expert: Expert) -> None:
    first, second = assess_all(expert, STORY), assess_all(expert, STORY)
    assert encoded(first[0]) == encoded(second[0])
    assert first_difference(first[1], second[1]) is None


@every_expert
def test_states_are_values(expert: Expert) -> None:
    """A state that was handed out before is not changed by what comes after it."""
    state, _ = assess_all(expert, STORY[:60])
    before = encoded(state)
    assess_all(expert, STORY[60:], state)
    assert encoded(state) == before


@every_expert
@pytest.mark.parametrize("cut", [1, 12, 40, 90])
def test_replay_from_a_checkpoint_gives_the_same_bytes(expert: Expert, cut: int) -> None:
    whole_state, whole = assess_all(expert, STORY)
    state, _ = assess_all(expert, STORY[:cut])
    restored = msgspec.msgpack.decode(encoded(state), type=expert.state_type)
    assert restored == state
    after_state, after = assess_all(expert, STORY[cut:], restored)
    assert encoded(after_state) == encoded(whole_state)
    assert first_difference(after, whole[cut:]) is None


@every_expert
def test_nothing_looks_ahead(expert: Expert) -> None:
    """Two futures after one past: what was said in the past is the same."""
    up, down = STORY[:80] + list(walk(11, STEPS, drift=2.0))[80:], STORY[:80] + list(walk(13, STEPS, drift=-2.0))[80:]
    first, second = assess_all(expert, up)[1], assess_all(expert, down)[1]
    assert first_difference(first[:80], second[:80]) is None


@every_expert
def test_opinions_are_sound(expert: Expert) -> None:
    for snapshot, assessment in zip(STORY, assess_all(expert, STORY)[1], strict=True):
        assert_sound(assessment, snapshot)


@every_expert
def test_silence_while_warming_up(expert: Expert) -> None:
    first = assess_all(expert, STORY[:1])[1][0]
    allowed = {AbstainReason.WARMING_UP, AbstainReason.MISSING_INPUT}
    assert {opinion.abstained for opinion in first.opinions} <= allowed
    assert first.alert is None
    last = assess_all(expert, STORY)[1][-1]
    assert AbstainReason.WARMING_UP not in {opinion.abstained for opinion in last.opinions}


@every_expert
def test_nothing_at_all_is_no_opinion(expert: Expert) -> None:
    state, _ = assess_all(expert, STORY)
    empty = make_snapshot(STEPS, None, {}, synchronised=False)
    _, assessment = expert.assess(state, empty)
    assert all(opinion.abstained is not None for opinion in assessment.opinions)


@every_expert
@pytest.mark.parametrize("period", [2, 3, 5])
def test_missing_inputs_and_gaps_are_survived(expert: Expert, period: int) -> None:
    snapshots = with_holes(STORY, period)
    for snapshot, assessment in zip(snapshots, assess_all(expert, snapshots)[1], strict=True):
        assert_sound(assessment, snapshot)


@every_expert
def test_a_null_is_not_a_zero(expert: Expert) -> None:
    """Whoever votes on direction abstains when what it needs is missing: nulling all inputs must show."""
    state, _ = assess_all(expert, STORY)
    blind = msgspec.structs.replace(STORY[-1], features=dict.fromkeys(INPUTS))
    _, assessment = expert.assess(state, blind)
    assert all(opinion.abstained is not None for opinion in assessment.opinions)


@every_expert
def test_a_snapshot_twice_or_after_a_long_silence_is_sound(expert: Expert) -> None:
    late = list(walk(7, STEPS))[-1]
    silence = [msgspec.structs.replace(late, grid_time_ns=late.grid_time_ns + gap) for gap in (0, 10**12, 10**15)]
    state, _ = assess_all(expert, STORY)
    for snapshot in silence:
        state, assessment = expert.assess(state, snapshot)
        assert_sound(assessment, snapshot)


@every_expert
@pytest.mark.parametrize("size", [0.0, 1e-300, 1e9, -1e9])
def test_extreme_inputs_stay_finite(expert: Expert, size: float) -> None:
    state = expert.initial()
    for step, snapshot in enumerate(STORY):
        if step % 5 == 4:
            features = {name: size for name in INPUTS}
            snapshot = msgspec.structs.replace(snapshot, features=features)
        state, assessment = expert.assess(state, snapshot)
        assert_sound(assessment, snapshot)


@every_expert
def test_state_stays_small(expert: Expert) -> None:
    state, _ = assess_all(expert, list(walk(3, 1500)))
    assert len(encoded(state)) < 4096


@every_expert
def test_horizons_it_never_met_are_answered(expert: Expert) -> None:
    state, _ = assess_all(expert, STORY)
    last = STORY[-1]
    others = tuple(msgspec.structs.replace(item, horizon_ns=item.horizon_ns * 7) for item in last.questions)
    _, assessment = expert.assess(state, msgspec.structs.replace(last, questions=others))
    assert_sound(assessment, last)
    _, none = expert.assess(state, msgspec.structs.replace(last, questions=()))
    assert none.opinions == ()


NEW_EXPERT = '''
"""Sleeper: hopes for the best.

Hypothesis: it goes up.
Inputs: none.
Fails when: it does not.
"""
import msgspec
from agents.experts._contract import abstention, directions
from schemas.opinions import AbstainReason

class State(msgspec.Struct, frozen=True):
    steps: int = 0

class Sleeper:
    name = "sleeper"
    state_type = State
    def initial(self):
        return State()
    def assess(self, state, snapshot):
        state = State(state.steps + 1)
        if state.steps < 3:
            return state, abstention(snapshot, AbstainReason.WARMING_UP)
        if snapshot.mid is None:
            return state, abstention(snapshot, AbstainReason.MISSING_INPUT)
        count = len(snapshot.questions)
        return state, directions(((0.2, 0.3, 0.5),) * count, ({"steps": float(state.steps)},) * count)

EXPERT = Sleeper()
'''


def write_package(folder: Path, name: str, **modules: str) -> str:
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text("")
    for module, text in modules.items():
        (package / f"{module}.py").write_text(textwrap.dedent(text))
    importlib.invalidate_caches()
    return name


def test_a_new_expert_is_one_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is found, hosted by the stage, and passes the checks of this module, with no other file changed."""
    monkeypatch.syspath_prepend(tmp_path)
    package = write_package(tmp_path, "committee_of_one", sleeper=NEW_EXPERT, _notes="raise RuntimeError")
    expert = load(package)["sleeper"]
    for check in (
        test_name_and_docstring,
        test_the_same_input_gives_the_same_bytes,
        test_states_are_values,
        test_nothing_looks_ahead,
        test_opinions_are_sound,
        test_silence_while_warming_up,
        test_nothing_at_all_is_no_opinion,
        test_a_snapshot_twice_or_after_a_long_silence_is_sound,
        test_state_stays_small,
    ):
        check(expert)
    stage = Experts(ExpertsConfig(features=FeatureConfig(instruments={}), package=package))
    assert stage.expert_names == ("sleeper",)
    assert stage.state_type("SIM:BTCUSD/expert/sleeper") is expert.state_type


def test_an_expert_that_breaks_the_contract_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks above can fail: an expert that remembers outside its state and one that sums to 1.1."""
    monkeypatch.syspath_prepend(tmp_path)
    forgetful = NEW_EXPERT.replace(
        "state = State(state.steps + 1)", "self.seen = getattr(self, 'seen', 0) + 1"
    ).replace("state.steps", "self.seen")
    loud = NEW_EXPERT.replace("(0.2, 0.3, 0.5)", "(0.3, 0.3, 0.5)")
    package = write_package(tmp_path, "committee_of_two", sleeper=forgetful, zloud=loud.replace('"sleeper"', '"zloud"'))
    found = load(package)
    with pytest.raises(AssertionError):
        test_the_same_input_gives_the_same_bytes(found["sleeper"])
    with pytest.raises(AssertionError):
        test_opinions_are_sound(found["zloud"])


@pytest.mark.parametrize(
    ("modules", "error", "says"),
    [
        ({"first": NEW_EXPERT, "second": NEW_EXPERT}, ValueError, "sleeper exists already"),
        ({"nothing": "VALUE = 1"}, ValueError, "defines no EXPERT"),
        ({"broken": "import no_such_module_anywhere"}, ModuleNotFoundError, "no_such_module_anywhere"),
    ],
)
def test_a_committee_that_does_not_load_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modules: dict[str, str], error: type[Exception], says: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = write_package(tmp_path, "committee_" + "_".join(modules), **modules)
    with pytest.raises(error, match=says):
        load(package)


def test_experts_can_be_named_and_a_wrong_name_is_told() -> None:
    assert list(load(names=["momentum", "anomaly"])) == ["anomaly", "momentum"]
    with pytest.raises(ValueError, match="no such expert: astrology"):
        load(names=["astrology"])


def test_the_six_experts_of_the_platform_are_there() -> None:
    assert list(EXPERTS) == ["anomaly", "mean_reversion", "momentum", "order_flow", "quant", "volatility_regime"]
    assert len(HORIZONS_NS) == 3
    assert {field.name for field in msgspec.structs.fields(Vote)} >= {"p_down", "p_flat", "p_up", "abstained"}
