"""The release train in the decider: who acts, what a shadow may, and how a bad model is out before it could order."""

import math
from typing import Any

import pytest
from money_events import PERP, mark, tally
from release_train import Train, Wants, gained, released

from agents.decider.policy import Observation, PolicyAnswer, PolicyContext
from agents.decider.releases import SHADOWS_MAX
from agents.release.drift import DriftTerms
from schemas.decisions import Decision, DecisionOutcome, NoTradeReason
from schemas.event import derive_id
from schemas.feedback import ModelRelease, ReleaseStage, RetirementReason
from schemas.routing import targets
from schemas.topics import DECISION, DECISION_SHADOW, MODEL_RELEASE

SHADOW, CANARY, CHAMPION = ReleaseStage.SHADOW, ReleaseStage.CANARY, ReleaseStage.CHAMPION
RETIRED, CANDIDATE = ReleaseStage.RETIRED, ReleaseStage.CANDIDATE
NAN_AFTER_2 = {"turns": 2}


def retirements(found: list[Any]) -> list[tuple[str, str]]:
    return [(item.model, item.reason) for item in found if isinstance(item, ModelRelease)]


def decisions(found: list[Any]) -> list[Decision]:
    return [item for item in found if isinstance(item, Decision)]


def test_the_champion_of_the_settings_acts_until_another_is_released() -> None:
    train = Train({"old": Wants(1.0), "new": Wants(-1.0)}, champion="old")
    first = train.decided()
    assert (first.policy, first.policy_stage, first.target) == ("old", "CHAMPION", 1.0)
    assert train.release("new", CHAMPION) == []
    second = train.decided()
    assert (second.policy, second.policy_stage, second.target) == ("new", "CHAMPION", -1.0)


def test_without_a_champion_the_fallback_acts() -> None:
    found = Train({}).decided()
    assert (found.policy, found.target) == ("rule", 0.5)


def test_a_candidate_is_only_heard_of() -> None:
    train = Train({"old": Wants(1.0), "new": Wants(-1.0)}, champion="old")
    assert train.release("new", CANDIDATE) == []
    assert [item.policy for item in decisions(train.tick())] == ["old", "flat"]


@pytest.mark.parametrize("champion", ["old", None])
def test_a_retired_champion_gives_way_to_the_former_and_that_to_the_fallback(champion: str | None) -> None:
    train = Train({"old": Wants(1.0), "new": Wants(-1.0), "last": Wants(0.0)}, champion=champion)
    train.release("new", CHAMPION)
    train.release("last", CHAMPION)
    assert train.decided().policy == "last"
    train.release("last", RETIRED)
    assert train.decided().policy == "new"
    train.release("new", RETIRED)
    assert train.decided().policy == (champion or "rule")
    train.release("old", RETIRED)
    assert train.decided().policy == "rule"


def test_a_canary_acts_in_its_own_strategy_alone() -> None:
    train = Train({"old": Wants(1.0), "new": Wants(-0.5)}, champion="old")
    flat = train.decided("beta")
    assert (flat.target, flat.outcome, flat.reason) == (0.0, DecisionOutcome.NO_TRADE, NoTradeReason.NULL_POLICY)
    train.release("new", CANARY)
    champion, canary = decisions(train.tick())
    assert (champion.strategy, champion.policy, champion.target) == ("alpha", "old", 1.0)
    assert (canary.strategy, canary.policy, canary.policy_stage, canary.target) == ("beta", "new", "CANARY", -0.5)


def test_a_retired_canary_wants_nothing_at_the_next_decision() -> None:
    train = Train({"new": Wants(-0.5)})
    train.release("new", CANARY)
    assert train.decided("beta").target == -0.5
    train.release("new", RETIRED)
    found = train.decided("beta")
    assert (found.target, found.outcome, found.policy_stage) == (0.0, DecisionOutcome.TARGET, "RETIRED")


def test_a_canary_that_becomes_champion_leaves_its_trial() -> None:
    train = Train({"old": Wants(1.0), "new": Wants(-0.5)}, champion="old")
    train.release("new", CANARY)
    train.tick()
    train.release("new", CHAMPION)
    assert [(item.policy, item.target) for item in decisions(train.tick())] == [("new", -0.5), ("flat", 0.0)]


def test_a_second_canary_takes_the_place_of_the_first() -> None:
    train = Train({"one": Wants(0.5), "two": Wants(-0.5)})
    train.release("one", CANARY)
    assert retirements(train.release("two", CANARY)) == [("one", "SUPERSEDED")]
    assert train.decided("beta").policy == "two"


def test_a_shadow_decides_on_paper_beside_the_champion_and_goes_where_nobody_reads() -> None:
    train = Train({"old": Wants(1.0), "new": Wants(-0.5)}, champion="old")
    train.release("new", SHADOW)
    own, shadow, trial = decisions(train.tick())
    assert (own.policy, own.target, trial.strategy) == ("old", 1.0, "beta")
    assert (shadow.policy, shadow.policy_stage, shadow.target) == ("new", "SHADOW", -0.5)
    assert (shadow.strategy, shadow.tally_id) == (own.strategy, own.tally_id)
    assert targets(shadow, 4, None) == ((DECISION_SHADOW.name, 0),)
    assert targets(own, 4, None) == ((DECISION.name, 0),)
    assert set(DECISION_SHADOW.consumers) == {"sinks"}


def test_a_shadows_line_is_its_own() -> None:
    """It sees the target that it wanted itself and a position on paper, whatever the champion holds."""
    train = Train({"old": Wants(1.0), "new": Wants(-0.5)}, champion="old")
    train.release("new", SHADOW)
    train.tick()
    own, shadow, _ = decisions(train.tick())
    assert (own.observation["target"], own.previous_target) == (1.0, 1.0)
    assert (shadow.observation["target"], shadow.previous_target) == (-0.5, -0.5)
    assert shadow.observation["exposure"] == pytest.approx(-0.5)
    assert own.observation["exposure"] == 0.0
    assert (shadow.outcome, shadow.reason) == (DecisionOutcome.NO_TRADE, NoTradeReason.TARGET_UNCHANGED)


def test_a_shadow_changes_nothing_of_what_is_decided() -> None:
    def told(*shadows: str) -> list[tuple[Any, ...]]:
        train = Train({name: Wants(1.0, turns=3, then=-1.0) for name in ("old", "one", "two")}, champion="old")
        for name in shadows:
            train.release(name, SHADOW)
        found = [item for _ in range(6) for item in decisions(train.tick()) if item.policy_stage != "SHADOW"]
        return [(item.strategy, item.target, item.outcome, item.reason, item.observation) for item in found]

    assert told() == told("one", "two")


def test_every_decision_is_named_by_its_own_id_whatever_is_told_before_it() -> None:
    train = Train({"old": Wants(1.0, **NAN_AFTER_2), "new": Wants(-0.5), "try": Wants(0.5)}, champion="old")
    train.release("new", SHADOW)
    train.release("try", CANARY)
    for _ in range(4):
        found = train.tick()
        ids = [derive_id(found[0].cause_id, "decider", ordinal) for ordinal in range(len(found))]
        assert [item.event_id for item in found] == ids
        assert all(item.decision_id == item.event_id for item in decisions(found))


def test_one_shadow_too_many_takes_the_place_of_the_oldest() -> None:
    names = [f"m{number}" for number in range(SHADOWS_MAX + 1)]
    train = Train({name: Wants(0.0) for name in names})
    found = [item for name in names for item in train.release(name, SHADOW)]
    assert retirements(found) == [("m0", "SUPERSEDED")]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1.5, -1.0000001])
def test_a_bad_champion_decides_nothing_and_is_out_in_the_same_step(bad: float) -> None:
    train = Train({"old": Wants(0.0), "new": Wants(1.0, turns=2, then=bad)}, champion="old")
    train.release("new", CHAMPION)
    before = [train.decided() for _ in range(2)]
    found = train.tick()
    assert [item.policy for item in before] == ["new", "new"]
    assert retirements(found) == [("new", "INVALID_OUTPUT")]
    (now,) = [item for item in decisions(found) if item.strategy == "alpha"]
    assert (now.policy, now.target, now.outcome) == ("old", 0.0, DecisionOutcome.TARGET)


def test_two_bad_champions_in_a_row_leave_the_fallback_in_the_same_step() -> None:
    train = Train({"old": Wants(math.nan), "new": Wants(math.nan)}, champion="old")
    train.release("new", CHAMPION)
    found = train.tick()
    assert retirements(found) == [("new", "INVALID_OUTPUT"), ("old", "INVALID_OUTPUT")]
    assert decisions(found)[0].policy == "rule"


class Broken:
    """What a network says whose numbers are none: it keeps the target, and says why."""

    name = "broken"

    def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:
        del observation
        return PolicyAnswer(context.target, NoTradeReason.POLICY_INVALID)


def test_a_network_that_says_itself_that_it_is_broken_is_believed() -> None:
    train = Train({"new": Broken()})
    train.release("new", CHAMPION)
    found = train.tick()
    assert retirements(found) == [("new", "INVALID_OUTPUT")]
    assert decisions(found)[0].policy == "rule"


def test_a_figure_that_is_no_number_is_an_invalid_output_too() -> None:
    class Odd:
        name = "odd"

        def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:
            del observation, context
            return PolicyAnswer(0.5, None, math.inf)

    train = Train({"new": Odd()})
    train.release("new", CHAMPION)
    assert retirements(train.tick()) == [("new", "INVALID_OUTPUT")]


def test_a_bad_canary_is_flattened_in_the_same_step() -> None:
    train = Train({"new": Wants(0.5, turns=2)})
    train.release("new", CANARY)
    assert [train.decided("beta").target for _ in range(2)] == [0.5, 0.5]
    found = train.tick()
    assert retirements(found) == [("new", "INVALID_OUTPUT")]
    (flat,) = [item for item in decisions(found) if item.strategy == "beta"]
    assert (flat.target, flat.outcome, flat.policy_stage) == (0.0, DecisionOutcome.TARGET, "RETIRED")


def test_a_bad_shadow_is_retired_and_says_nothing() -> None:
    train = Train({"old": Wants(1.0), "new": Wants(math.nan)}, champion="old")
    train.release("new", SHADOW)
    found = train.tick()
    assert retirements(found) == [("new", "INVALID_OUTPUT")]
    assert [item.policy for item in decisions(found)] == ["old", "flat"]
    assert [item.policy for item in decisions(train.tick())] == ["old", "flat"]


def test_a_refused_artefact_is_answered_and_the_former_goes_on() -> None:
    train = Train({"old": Wants(1.0)}, champion="old")
    for stage in (SHADOW, CANARY, CHAMPION):
        (answer,) = train.release("evil", stage)
        assert (answer.model, answer.sha256, answer.release_stage) == ("evil", "sha-evil", RETIRED)
        assert (answer.reason, answer.author) == ("ARTEFACT_REFUSED", "decider")
    assert [(item.policy, item.target) for item in decisions(train.tick())] == [("old", 1.0), ("flat", 0.0)]


def test_an_artefact_that_is_refused_after_a_restart_is_out_at_its_first_decision() -> None:
    train = Train({"old": Wants(1.0), "new": Wants(-1.0)}, champion="old")
    train.release("new", CHAMPION)
    train.store.refused.add("sha-new")
    found = train.tick()
    assert retirements(found) == [("new", "ARTEFACT_REFUSED")]
    assert decisions(found)[0].policy == "old"


def test_a_canary_that_loses_is_out_at_the_valuation_that_shows_it() -> None:
    train = Train({"new": Wants(0.5)}, loss_max=0.05)
    train.give(gained(0, -0.2))
    train.release("new", CANARY)
    train.tick()
    assert train.give(gained(1, -0.2), gained(2, -0.24)) == []
    assert retirements(train.give(gained(3, -0.2501))) == [("new", "LOSS")]
    assert train.decided("beta").target == 0.0
    assert train.give(gained(4, -5.0)) == []


def test_the_loss_is_from_the_best_it_had() -> None:
    train = Train({"new": Wants(0.5)}, loss_max=0.05)
    train.release("new", CANARY)
    assert train.give(gained(1, 0.0), gained(2, 0.3)) == []
    assert retirements(train.give(gained(3, 0.24))) == [("new", "LOSS")]


def test_an_exploding_loss_takes_out_a_champion_too_and_the_next_begins_anew() -> None:
    train = Train({"old": Wants(1.0), "new": Wants(-1.0)}, champion="old", loss_max=0.05)
    train.release("new", CHAMPION)
    train.give(gained(1, 0.0, "alpha"))
    loss, found = 0.001, []
    while not found:
        loss *= 2
        found = train.give(gained(2, -loss, "alpha"))
    assert retirements(found) == [("new", "LOSS")]
    assert loss == pytest.approx(0.064)
    assert train.decided().policy == "old"
    assert train.give(gained(3, -loss - 0.04, "alpha")) == []
    assert retirements(train.give(gained(4, -loss - 0.0901, "alpha"))) == [("old", "LOSS")]


def test_the_losses_of_both_its_lines_are_one_models() -> None:
    train = Train({"new": Wants(1.0)}, loss_max=0.05)
    train.release("new", CHAMPION)
    spot = {"instrument": "SIM:ETHUSD"}
    assert train.give(gained(1, 0.0, "alpha"), gained(1, 0.0, "alpha", **spot), gained(2, -0.03, "alpha")) == []
    assert retirements(train.give(gained(2, -0.03, "alpha", **spot))) == [("new", "LOSS")]


def test_a_valuation_without_a_mid_judges_nobody() -> None:
    train = Train({"new": Wants(0.5)})
    train.release("new", CANARY)
    assert train.give(gained(1, 0.0), gained(2, -9.0, mid=None)) == []


def test_drifting_inputs_take_a_model_out_and_the_same_tally_is_the_formers() -> None:
    terms = DriftTerms(block=8)
    train = Train({"old": Wants(1.0), "new": Wants(-1.0)}, champion="old", drift=terms)
    assert all(not retirements(train.tick(disagreement=1.0)) for _ in range(10 * terms.block))
    train.release("new", CHAMPION)
    told = [train.tick(disagreement=9.0) for _ in range(3 * terms.block)]
    assert [retirements(found) for found in told[:-1]] == [[]] * (len(told) - 1)
    assert retirements(told[-1]) == [("new", "INPUT_DRIFT")]
    assert decisions(told[-1])[0].policy == "old"


def test_advice_counts_for_no_drift_but_a_bad_answer_to_it_is_one() -> None:
    train = Train({"new": Wants(1.0, turns=1)}, drift=DriftTerms(block=1, window=32))
    train.release("new", CHAMPION)
    asked: dict[str, Any] = {"advice_for": "alpha", "request_id": "r", "disagreement": 9.0}
    told = [found for _ in range(20) for found in train.tick(**asked)]
    assert retirements(told) == []
    train.tick()
    assert retirements(train.tick(**asked)) == [("new", "INVALID_OUTPUT")]


def test_our_own_word_finds_itself_done() -> None:
    train = Train({"old": Wants(1.0), "new": Wants(math.nan)}, champion="old")
    train.release("new", CHAMPION)
    (word, *_) = train.tick()
    assert isinstance(word, ModelRelease)
    assert targets(word, 4, None) == ((MODEL_RELEASE.name, 0),)
    assert {"decider"} <= set(MODEL_RELEASE.producers) & set(MODEL_RELEASE.consumers)
    before = dict(train.state)
    assert train.give(word) == []
    assert dict(train.state) == before


def test_a_retired_model_may_be_released_again_by_a_person() -> None:
    train = Train({"old": Wants(1.0), "new": Wants(-1.0, turns=1, then=math.nan)}, champion="old")
    train.release("old", RETIRED)
    assert train.decided().policy == "rule"
    train.release("old", CHAMPION)
    assert train.decided().policy == "old"


@pytest.mark.parametrize("stage", [SHADOW, CANARY, CHAMPION])
def test_after_a_restart_the_same_model_is_in_force(stage: ReleaseStage) -> None:
    def told(*, restarts: bool) -> list[Any]:
        train = Train({"old": Wants(1.0), "new": Wants(-1.0, turns=20, then=0.5)}, champion="old", drift=DriftTerms())
        train.release("new", stage)
        found = []
        for turn in range(30):
            if restarts and turn % 7 == 3:
                train.restarted()
            found += train.tick(disagreement=0.1)
        return found

    assert told(restarts=True) == told(restarts=False)


def test_every_reason_of_a_retirement_is_in_the_closed_list() -> None:
    assert {reason.value for reason in RetirementReason} == {
        "INVALID_OUTPUT",
        "INPUT_DRIFT",
        "LOSS",
        "ARTEFACT_REFUSED",
        "SUPERSEDED",
    }


def test_the_decision_of_a_named_model_names_it_even_if_the_artefact_calls_itself_otherwise() -> None:
    train = Train({"new": Wants(1.0, "its own name")})
    train.give(released("new", CHAMPION), mark(PERP), tally(0))
    assert train.decided().policy == "new"
