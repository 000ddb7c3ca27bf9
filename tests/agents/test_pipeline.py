"""The stages wired in one process meet exactly as they meet through topics, and in one order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import money_events
import pytest

from agents.pipeline import Pipeline
from agents.stage import ShardState
from schemas.event import Event, Heartbeat, derive_id
from schemas.orders import CancelRequested, ReportKind, VenueReport
from schemas.topics import TOPICS


@dataclass
class ListeningStage:
    """A stage that keeps what it was given and answers an event's type with the events it was told to."""

    name: str
    answers: dict[type[Event], tuple[Event, ...]] = field(default_factory=dict)
    heard: list[Event] = field(default_factory=list)

    def state_type(self, key: str) -> type:
        raise KeyError(key)

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        self.heard.append(event)
        return state, self.answers.get(type(event), ())


def refuse(request: Event) -> Iterable[Event]:
    raise AssertionError(f"nothing should be performed, but {request} was")


def wired(
    answers: dict[str, dict[type[Event], tuple[Event, ...]]], seen: list[Event]
) -> tuple[Pipeline, dict[str, ListeningStage]]:
    names = ("ingestion", "experts", "voting", "decider", "risk", "execution", "feedback", "control")
    stages = {name: ListeningStage(name, answers.get(name, {})) for name in names}
    return Pipeline(list(stages.values()), perform=refuse, observe=seen.append), stages


def beat(key: str = "market.event") -> Heartbeat:
    return Heartbeat(key=key, event_time_ns=1, available_at_ns=1, event_id="beat")


@pytest.mark.parametrize(
    "event",
    [money_events.mark(), money_events.tally(1), money_events.decision(0.5), money_events.account_mark()],
    ids=lambda event: type(event).__name__,
)
def test_a_published_event_reaches_just_the_consumers_of_its_topic(event: Event) -> None:
    seen: list[Event] = []
    pipeline, stages = wired({}, seen)
    pipeline.publish(event)
    topic = next(topic for topic in TOPICS.values() if type(event) in topic.records)
    assert {name for name, stage in stages.items() if stage.heard} == set(topic.consumers) & set(stages)
    assert seen == [event]


@pytest.mark.parametrize(
    ("key", "readers"),
    [("market.event", {"experts"}), ("feature.snapshot", {"voting"}), ("expert.vote", {"voting"})],
)
def test_a_heartbeat_goes_where_its_key_says(key: str, readers: set[str]) -> None:
    pipeline, stages = wired({}, [])
    pipeline.publish(beat(key))
    assert {name for name, stage in stages.items() if stage.heard} == readers


def test_fed_events_are_followed_to_quiescence_and_carry_their_cause() -> None:
    mark, tally, decision = money_events.mark(), money_events.tally(1), money_events.decision(0.5)
    seen: list[Event] = []
    answers = {
        "experts": {Heartbeat: (mark,)},
        "feedback": {type(mark): ()},
        "decider": {type(mark): (decision,), type(tally): (decision,)},
    }
    pipeline, stages = wired(answers, seen)
    pipeline.feed("experts", beat())
    assert seen == [mark, decision]
    assert mark.cause_id == "beat"
    assert decision.cause_id == mark.event_id
    assert decision.event_id == derive_id(mark.event_id, "decider", 0)
    assert [type(event) for event in stages["risk"].heard] == [type(mark), type(decision)]


def test_events_are_taken_in_the_order_in_which_they_came_about() -> None:
    first, second = money_events.mark(), money_events.mark(money_events.SPOT)
    decision = money_events.decision(0.5)
    pipeline, stages = wired({"experts": {Heartbeat: (first, second)}, "decider": {type(first): (decision,)}}, [])
    pipeline.feed("experts", beat())
    kinds = [type(event).__name__ for event in stages["risk"].heard]
    assert kinds == ["MarketMark", "MarketMark", "Decision", "Decision"], "breadth first: nothing overtakes"


def test_a_request_is_performed_and_never_seen_and_its_reports_go_back_to_who_asked() -> None:
    at = {"event_time_ns": 1, "available_at_ns": 1}
    request = CancelRequested(key="main", order_id="o1", instrument=money_events.PERP, **at)
    report = VenueReport(key="main", order_id="o1", instrument=money_events.PERP, kind=ReportKind.CANCELED, **at)
    asked: list[Event] = []
    seen: list[Event] = []
    execution = ListeningStage("execution", {Heartbeat: (request,)})
    risk = ListeningStage("risk")

    def perform(event: Event) -> Iterable[Event]:
        asked.append(event)
        return (report,)

    pipeline = Pipeline([execution, risk], perform=perform, observe=seen.append)
    pipeline.feed("execution", beat())
    assert asked == [request]
    assert request.event_id, "a request is named before it is sent"
    assert execution.heard[1:] == [report]
    assert seen == []
    assert risk.heard == []


def test_a_state_is_the_stages_own_and_an_unknown_stage_is_a_bug() -> None:
    pipeline, _ = wired({}, [])
    assert pipeline.state("risk") is not pipeline.state("decider")
    with pytest.raises(KeyError):
        pipeline.feed("trainer", beat())
