"""The life of a ballot, as a table of what arrives and what has closed after it."""

import pytest
from snapshot_stories import make_snapshot

from agents.voting.ballot import (
    Answer,
    BallotConfig,
    Committee,
    OpenBallot,
    close_due,
    live_experts,
    open_ballot,
    sheet_of,
    take_answer,
    unexpired_answers,
)
from schemas.opinions import Question
from schemas.values import NS_PER_MS, NS_PER_S

CONFIG = BallotConfig()
MID = 10**12
SECOND = 10**9


def answer(expert: str, at_ns: int = 0, expires_at_ns: int = 2**62) -> Answer:
    return Answer(
        expert=expert,
        p_down=0.2,
        p_flat=0.3,
        p_up=0.5,
        abstained=None,
        text_fed=False,
        evidence={},
        context={},
        available_at_ns=at_ns,
        expires_at_ns=expires_at_ns,
    )


class Play:
    """A committee with the moves written short: ``open 1``, ``a>1`` (a votes on ballot 1), ``now 1.6``."""

    def __init__(self, config: BallotConfig = CONFIG) -> None:
        self.config = config
        self.committee = Committee()

    def move(self, text: str) -> list[OpenBallot]:
        word, _, rest = text.partition(" ")
        if word == "open":
            snapshot = make_snapshot(int(rest), MID, {})
            question = Question(ballot_id=rest, horizon_ns=SECOND, flat_band=0)
            return open_ballot(self.config, self.committee, sheet_of(snapshot), question)
        if word == "now":
            start = make_snapshot(0, MID, {}).grid_time_ns
            return close_due(self.config, self.committee, start + round(float(rest) * NS_PER_S))
        expert, _, ballot_id = text.partition(">")
        start = make_snapshot(0, MID, {}).grid_time_ns
        return take_answer(self.config, self.committee, ballot_id, answer(expert, start + int(ballot_id) * NS_PER_S))

    def all(self, *moves: str) -> list[list[str]]:
        return [
            [f"{ballot.ballot_id}:{ballot.closed_by}:{'+'.join(sorted(ballot.answers))}" for ballot in self.move(text)]
            for text in moves
        ]


CASES: list[tuple[str, list[tuple[str, list[str]]]]] = [
    (
        "nobody is live: the first ballot waits for its deadline, whoever votes",
        [("open 1", []), ("a>1", []), ("b>1", []), ("now 1.4", []), ("now 1.5", ["1:DEADLINE:a+b"])],
    ),
    ("nobody votes at all", [("open 1", []), ("now 1.5", ["1:DEADLINE:"]), ("open 2", []), ("now 3", ["2:DEADLINE:"])]),
    (
        "all live have answered",
        [
            *[("open 1", []), ("a>1", []), ("b>1", []), ("now 1.5", ["1:DEADLINE:a+b"])],
            *[("open 2", []), ("b>2", []), ("a>2", ["2:ALL:a+b"]), ("now 2.5", [])],
        ],
    ),
    (
        "a live one is late: the ballot closes at its deadline, and the late vote keeps it live",
        [
            *[("open 1", []), ("a>1", []), ("b>1", []), ("now 1.5", ["1:DEADLINE:a+b"])],
            *[("open 2", []), ("a>2", []), ("now 2.5", ["2:DEADLINE:a"]), ("b>2", [])],
            *[("open 3", []), ("a>3", []), ("b>3", ["3:ALL:a+b"])],
        ],
    ),
    (
        "a vote comes before its snapshot",
        [
            *[("open 1", []), ("a>1", []), ("now 1.5", ["1:DEADLINE:a"])],
            *[("a>2", []), ("now 1.9", []), ("open 2", ["2:ALL:a"])],
        ],
    ),
    (
        "an early vote is forgotten when its snapshot can no longer come in time",
        [
            *[("open 1", []), ("a>1", []), ("now 1.5", ["1:DEADLINE:a"])],
            *[("a>2", []), ("now 2.6", []), ("open 2", []), ("now 2.7", ["2:DEADLINE:"])],
        ],
    ),
    (
        "an expert votes twice: the first counts",
        [
            *[("open 1", []), ("a>1", []), ("a>1", []), ("b>1", []), ("now 1.5", ["1:DEADLINE:a+b"])],
            *[("open 2", []), ("a>2", []), ("a>2", []), ("b>2", ["2:ALL:a+b"]), ("b>2", [])],
        ],
    ),
    (
        "a newcomer counts if it comes before the close, and is waited for from the next ballot on",
        [
            *[("open 1", []), ("a>1", []), ("now 1.5", ["1:DEADLINE:a"])],
            *[("open 2", []), ("new>2", []), ("a>2", ["2:ALL:a+new"])],
            *[("open 3", []), ("a>3", []), ("new>3", ["3:ALL:a+new"])],
        ],
    ),
    (
        "a ballot that was opened already is not opened again",
        [("open 1", []), ("a>1", []), ("now 1.5", ["1:DEADLINE:a"]), ("open 1", []), ("now 9", [])],
    ),
    (
        "several fall due at once, in the order of opening",
        [("open 1", []), ("open 2", []), ("a>2", []), ("now 9", ["1:DEADLINE:", "2:DEADLINE:a"])],
    ),
]


@pytest.mark.parametrize(("story", "moves"), CASES, ids=[case[0] for case in CASES])
def test_life_of_a_ballot(story: str, moves: list[tuple[str, list[str]]]) -> None:
    assert Play().all(*[move for move, _ in moves]) == [closed for _, closed in moves], story


def test_who_is_silent_for_twenty_ballots_is_not_waited_for() -> None:
    play = Play()
    play.all("open 1", "a>1", "b>1", "now 1.5")
    for number in range(2, 22):
        assert play.all(f"open {number}", f"a>{number}") == [[], []], "b is still waited for"
        play.all(f"now {number}.5")
    assert play.all("open 22", "a>22") == [[], ["22:ALL:a"]]
    assert live_experts(CONFIG, play.committee) == ["a"]


def test_a_vote_for_a_ballot_long_gone_makes_nobody_live() -> None:
    play = Play()
    for number in range(1, 30):
        play.all(f"open {number}", f"now {number}.5")
    play.all("ghost>1", "late>29")
    assert live_experts(CONFIG, play.committee) == ["late"]


def test_who_was_late_is_told() -> None:
    play = Play()
    play.all("open 1", "a>1", "b>1", "c>1", "now 1.5", "open 2", "b>2")
    (ballot,) = play.move("now 2.5")
    assert ballot.awaiting == ["a", "c"]


def test_only_votes_that_still_hold_answer_a_request() -> None:
    committee = Committee()
    snapshot = make_snapshot(1, MID, {})
    open_ballot(CONFIG, committee, sheet_of(snapshot), Question(ballot_id="1", horizon_ns=SECOND, flat_band=0))
    take_answer(CONFIG, committee, "1", answer("short", expires_at_ns=100))
    take_answer(CONFIG, committee, "1", answer("long", expires_at_ns=200))
    assert sorted(unexpired_answers(CONFIG, committee, 100)) == ["long", "short"]
    assert sorted(unexpired_answers(CONFIG, committee, 150)) == ["long"]
    assert unexpired_answers(CONFIG, committee, 201) == {}


def test_a_flood_of_made_up_ballots_is_bounded_and_does_not_displace_what_is_open() -> None:
    config = BallotConfig(early_max=50)
    play = Play(config)
    play.all("open 1", "a>1", "now 1.5", "open 2")
    for number in range(10_000):
        take_answer(config, play.committee, f"made-up-{number % 3000}", answer(f"stranger-{number % 7}"))
    assert play.committee.early_count == sum(len(waiting) for waiting in play.committee.early.values()) <= 50
    assert play.committee.refused > 9_000
    assert play.all("a>2") == [["2:ALL:a"]]
    play.move("now 99")
    assert play.committee.early_count == 0
    assert play.committee.early == {}


def test_a_flood_of_made_up_names_is_bounded() -> None:
    config = BallotConfig(experts_max=8)
    play = Play(config)
    play.all("open 1", "a>1", "now 1.5", "open 2")
    for number in range(1000):
        take_answer(config, play.committee, "2", answer(f"stranger-{number}"))
    assert len(play.committee.voters) == 8
    assert len(play.committee.newest) == 8
    assert play.committee.refused == 1000 - 7
    assert len(play.move("now 2.5")[0].answers) == 7


def test_who_is_gone_makes_room_for_who_comes() -> None:
    config = BallotConfig(experts_max=3, live_ballots=4)
    play = Play(config)
    play.all("open 1", "a>1", "b>1", "c>1", "now 1.5", "open 2", "a>2", "d>2")
    assert sorted(play.committee.voters) == ["a", "b", "c"]
    for number in range(3, 8):
        play.all(f"open {number}", f"a>{number}", f"now {number}.5")
    play.all("open 8", "d>8")
    assert sorted(play.committee.voters) == ["a", "d"]
    assert sorted(play.committee.newest) == ["a", "d"]


def test_open_ballots_are_bounded_when_time_stands_still() -> None:
    config = BallotConfig(open_max=5)
    play = Play(config)
    closed = [item for number in range(1, 9) for item in play.all(f"open {number}")[0]]
    assert closed == ["1:DEADLINE:", "2:DEADLINE:", "3:DEADLINE:"]


def test_the_default_early_keep_is_the_deadline_of_a_ballot() -> None:
    snapshot = make_snapshot(1, MID, {})
    assert snapshot.deadline_ns - snapshot.grid_time_ns == CONFIG.early_keep_ns == 500 * NS_PER_MS
