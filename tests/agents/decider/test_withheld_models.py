"""A model in force is not asked about an instrument that it was not trained on: the fallback acts, and says so."""

import math

import pytest
from money_events import PERP, SPOT, T0, mark, tally
from release_train import Train, Wants, gained

from agents.decider.state import watch_key
from agents.release.drift import DriftTerms
from schemas.decisions import Decision, DecisionOutcome, WithheldReason
from schemas.feedback import ModelRelease, ReleaseStage
from schemas.values import NS_PER_S

CANARY, CHAMPION, SHADOW = ReleaseStage.CANARY, ReleaseStage.CHAMPION, ReleaseStage.SHADOW


def on_spot(train: Train) -> Decision:
    """Return alpha's own decision on the other instrument, in the next second."""
    train.second += 1
    at_ns = T0 + train.second * NS_PER_S
    found = train.give(mark(SPOT, at_ns), tally(train.second, at_ns, key=SPOT))
    (own,) = [item for item in found if isinstance(item, Decision) and item.policy_stage != SHADOW]
    return own


def test_where_it_was_trained_the_champion_acts_and_elsewhere_the_fallback() -> None:
    model = Wants(1.0)
    train = Train({"old": model}, champion="old", markets={"old": {PERP}})
    inside = train.decided()
    assert (inside.policy, inside.target, inside.withheld, inside.withheld_for) == ("old", 1.0, None, None)
    asked = model.asked
    outside = on_spot(train)
    assert (outside.policy, outside.policy_stage, outside.target) == ("rule", "CHAMPION", 0.5)
    assert (outside.withheld, outside.withheld_for) == ("old", WithheldReason.OUTSIDE_TRAINING)
    assert model.asked == asked


def test_trained_on_nothing_that_is_named_it_acts_nowhere() -> None:
    assert Train({"old": Wants(1.0)}, champion="old", markets={"old": set()}).decided().withheld == "old"


def test_a_setting_lets_it_act_everywhere() -> None:
    train = Train({"old": Wants(1.0)}, champion="old", markets={"old": {PERP}}, act_outside_training=True)
    found = on_spot(train)
    assert (found.policy, found.withheld, found.withheld_for) == ("old", None, None)


def test_without_a_model_in_force_none_is_withheld() -> None:
    found = on_spot(Train({}, markets={"old": {PERP}}))
    assert (found.policy, found.withheld) == ("rule", None)


def test_a_champion_that_comes_hands_over_what_it_was_not_trained_on() -> None:
    train = Train({"old": Wants(1.0), "new": Wants(-1.0)}, champion="old", markets={"new": {SPOT}})
    assert train.decided().target == 1.0
    train.release("new", CHAMPION)
    found = train.decided()
    assert (found.policy, found.previous_target, found.target, found.withheld) == ("rule", 1.0, 0.5, "new")
    assert on_spot(train).policy == "new"


def test_a_canary_opens_nothing_where_it_was_not_trained() -> None:
    train = Train({"new": Wants(-0.5)}, markets={"new": {SPOT}})
    train.release("new", CANARY)
    found = train.decided("beta")
    assert (found.target, found.outcome, found.policy_stage) == (0.0, DecisionOutcome.NO_TRADE, "RETIRED")
    assert found.withheld == "new"


def test_in_shadow_a_model_is_asked_everywhere() -> None:
    train = Train({"old": Wants(1.0), "new": Wants(-0.5)}, champion="old", markets={"old": {SPOT}, "new": {SPOT}})
    train.release("new", SHADOW)
    own, shadow, _ = [item for item in train.tick() if isinstance(item, Decision)]
    assert (own.policy, own.withheld) == ("rule", "old")
    assert (shadow.policy, shadow.policy_stage, shadow.target, shadow.withheld) == ("new", "SHADOW", -0.5, None)


def test_advice_is_not_the_withheld_models_either() -> None:
    train = Train({"old": Wants(1.0)}, champion="old", markets={"old": {SPOT}})
    (advice,) = train.tick(advice_for="alpha", request_id="r")
    assert (advice.outcome, advice.policy, advice.withheld) == (DecisionOutcome.ADVICE, "rule", "old")


def test_no_model_answers_for_inputs_and_losses_of_where_it_does_not_act() -> None:
    train = Train({"old": Wants(1.0)}, champion="old", markets={"old": {SPOT}}, drift=DriftTerms(), loss_max=0.05)
    for _ in range(200):
        assert not [item for item in train.tick(disagreement=9.0) if isinstance(item, ModelRelease)]
    assert train.give(gained(201, 0.0, "alpha"), gained(202, -1.0, "alpha")) == []
    assert train.state.get(watch_key("sha-old")) is None
    assert train.give(gained(203, 0.0, "alpha", instrument=SPOT, mid=1)) == []
    assert train.state.get(watch_key("sha-old")) is not None


def test_where_it_acts_it_does_answer() -> None:
    """The test above would hold for a watch that sees nothing."""
    train = Train({"old": Wants(1.0)}, champion="old", markets={"old": {PERP}}, loss_max=0.05)
    (lost,) = train.give(gained(1, 0.0, "alpha"), gained(2, -1.0, "alpha"))
    assert isinstance(lost, ModelRelease)


def test_one_that_is_refused_is_retired_and_not_withheld() -> None:
    train = Train({"old": Wants(1.0)}, champion="old", markets={"old": {SPOT}})
    train.store.refused.add("sha-old")
    retired, found = [item for item in train.tick() if getattr(item, "strategy", "alpha") == "alpha"]
    assert (retired.reason, found.policy, found.withheld) == ("ARTEFACT_REFUSED", "rule", None)


def test_a_restart_changes_nothing_of_it() -> None:
    train = Train({"old": Wants(1.0)}, champion="old", markets={"old": {SPOT}})
    before = train.decided()
    train.restarted()
    after = train.decided()
    assert (before.policy, before.withheld) == (after.policy, after.withheld) == ("rule", "old")


@pytest.mark.parametrize("bad", [math.nan, 7.0])
def test_a_bad_answer_that_nobody_asks_for_retires_nobody(bad: float) -> None:
    train = Train({"old": Wants(bad)}, champion="old", markets={"old": {SPOT}})
    assert [type(item) for item in train.tick()] == [Decision, Decision]
