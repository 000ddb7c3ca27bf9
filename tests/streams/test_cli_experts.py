"""``tradermind experts`` over a record whose experts are known: who is trusted, read down, and would have earned."""

import asyncio
import json
from typing import Any

import msgspec
import psycopg
import pytest
import typer
from market_inputs import definition
from snapshot_stories import INSTRUMENT
from typer.testing import CliRunner, Result
from vote_stories import HORIZON_NS, informed, silent, tell, uniform

from infra.postgres.migrate import migrate
from infra.postgres.projections import Projections
from schemas.event import Event
from schemas.feedback import ExpertScore
from schemas.market import InstrumentDefined
from schemas.opinions import VoteTally
from schemas.values import NS_PER_S
from streams.cli_experts import experts
from streams.expert_record import POOL, profit, rows_of, scored_ballot

pytestmark = pytest.mark.slow

RUNNER = CliRunner()
STEPS = 400
EXPERTS = {"good": informed(), "loud": informed(6.0), "quiet": silent, "vague": uniform}
APP = typer.Typer()
APP.command()(experts)


def ask(dsn: str, *arguments: str) -> Result:
    return RUNNER.invoke(APP, [*arguments, "--dsn", dsn], env={"COLUMNS": "260"})


def numbered(events: list[Event]) -> list[Event]:
    kept = [event for event in events if isinstance(event, VoteTally | ExpertScore | InstrumentDefined)]
    return [
        msgspec.structs.replace(event, generation=1, seq=number, event_id=event.event_id or "instrument")
        for number, event in enumerate(kept)
    ]


def write(dsn: str, events: list[Event]) -> None:
    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await Projections(connection).write(events)

    asyncio.run(run())


@pytest.fixture
def record(database: str) -> str:
    """The DSN of a record of 400 ballots."""
    migrate(database)
    write(database, numbered(tell(EXPERTS, STEPS)))
    return database


def rows(dsn: str, *arguments: str) -> dict[str, dict[str, Any]]:
    result = ask(dsn, "--json", *arguments)
    assert result.exit_code == 0, result.output
    return {row["expert"]: row for row in json.loads(result.stdout) if row["horizon_s"] == "1"}


def test_it_shows_whom_to_trust_how_far_and_what_each_was_worth(record: str) -> None:
    found = rows(record, "--instrument", INSTRUMENT)
    assert set(found) == {*EXPERTS, POOL}
    good, loud, vague, quiet = (found[name] for name in ("good", "loud", "vague", "quiet"))
    assert good["weight"] > vague["weight"]
    assert good["ballots"] == STEPS - 1
    assert (good["abstained"], quiet["abstained"]) == (0, STEPS - 1)
    assert loud["log_loss_after"] < loud["log_loss_before"] - 0.1
    assert loud["ece_after"] < loud["ece_before"] / 2
    assert good["log_loss_after"] == pytest.approx(good["log_loss_before"], abs=0.02)
    assert good["regret_fixed"] < vague["regret_fixed"]
    assert good["signal_bp"] > 0
    assert vague["net_bp"] == vague["turnover"] == 0
    assert abs(vague["signal_bp"]) < good["signal_bp"] / 5
    assert quiet["log_loss_before"] is None
    assert found[POOL]["best_fixed"] in ("good", "loud")
    assert found[POOL]["regret_shifting"] >= found[POOL]["regret_fixed"]
    assert [period["ballots"] for period in good["over_time"]] == [99, 100, 100, 100]
    assert loud["over_time"][0]["ece_before"] > loud["over_time"][-1]["ece_after"]


def test_a_person_gets_tables(record: str) -> None:
    shown = ask(record).stdout
    assert all(word in shown for word in ("loud", "log loss before", "ece after", "net bp", "regret shifting", POOL))
    shown = ask(record, "--over-time").stdout
    assert all(word in shown for word in ("from ballot", "brier after", "299"))
    assert ask(record, "--instrument", "SIM:NONE").stdout == "No tally is in the record yet.\n"


def test_fewer_ballots_are_the_newest_ones(record: str) -> None:
    newest = rows(record, "--ballots", "100")["loud"]
    whole = rows(record)["loud"]
    assert newest["ballots"] == 100
    assert newest["log_loss_after"] == pytest.approx(whole["over_time"][-1]["log_loss_after"])


def test_without_a_database_it_is_one_sentence_and_exit_code_2() -> None:
    result = ask("host=127.0.0.1 port=1 connect_timeout=1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("The database cannot be reached: ")


def ballot_rows(mids: list[float], leans: list[float | None], spread: float | None = 0.0) -> list[Any]:
    return [
        scored_ballot(
            {
                **{"grid_time_ns": number * NS_PER_S, "mid": mid, "spread": spread, "volatility": 0.01},
                **{"p_down": None, "p_flat": None, "p_up": None, "outcome": 1, "base_loss": 0.2, "pool_loss": 0.2},
                "entries": [
                    {
                        "expert": "only",
                        "p_down": None if lean is None else 0.5 - lean / 2,
                        "p_flat": None if lean is None else 0.0,
                        "p_up": None if lean is None else 0.5 + lean / 2,
                    }
                ],
            }
        )
        for number, (mid, lean) in enumerate(zip(mids, leans, strict=True))
    ]


def test_profit_is_what_was_held_times_what_happened_less_what_was_paid() -> None:
    """By hand: long a whole budget at 100, sold short at 102, bought back at 99; half a percent one way."""
    ballots = ballot_rows([100.0, 102.0, 99.0], [0.9, -0.9, None], spread=None)
    opinions = [ballot.entries["only"].meant for ballot in ballots]
    unpriced = profit(ballots, opinions, HORIZON_NS, None)
    assert unpriced.signal_bp == pytest.approx(1e4 * (0.02 + 3 / 102))
    assert (unpriced.net_bp, unpriced.turnover) == (None, None)
    free = profit(ballot_rows([100.0, 102.0, 99.0], [0.9, -0.9, None]), opinions, HORIZON_NS, 0.0)
    assert free.net_bp == pytest.approx(unpriced.signal_bp)
    assert free.turnover == pytest.approx(4.0)
    paid = profit(ballot_rows([100.0, 102.0, 99.0], [0.9, -0.9, None]), opinions, HORIZON_NS, 0.001)
    assert paid.net_bp == pytest.approx(1e4 * (0.02 + 3 / 102 - 4 * 0.001))
    idle = profit(ballot_rows([100.0, 102.0, 99.0], [0.9, -0.9, None]), opinions, HORIZON_NS, 0.05)
    assert (idle.net_bp, idle.turnover) == (0.0, 0.0)


def test_what_comes_later_changes_nothing_that_was_earned_before() -> None:
    """The profit of a beginning is the same whatever follows, up to closing what is held."""
    begun = ballot_rows([100.0, 102.0], [0.9, None])
    for last in (50.0, 200.0):
        longer = ballot_rows([100.0, 102.0, 102.0, last], [0.9, 0.0, None, None])
        opinions = [ballot.entries["only"].meant for ballot in longer]
        assert profit(longer, opinions, HORIZON_NS, 0.0).signal_bp == pytest.approx(
            profit(begun, opinions[:1] + [None], HORIZON_NS, 0.0).signal_bp
        )


def test_ballots_without_a_mid_or_a_vote_are_no_trap() -> None:
    row = {"mid": None}
    assert scored_ballot(row) is None
    (found,) = rows_of([], HORIZON_NS, 0.001, 3).values()
    assert (found["ballots"], found["log_loss_after"], found["over_time"]) == (0, None, [])
    told = rows_of(ballot_rows([100.0, 101.0], [None, None]), HORIZON_NS, 0.001, 3)
    assert told["only"]["abstained"] == 2
    assert told[POOL]["regret_fixed"] is None


def test_the_story_has_what_a_run_has() -> None:
    events = tell({"good": informed()}, 5)
    assert sum(isinstance(event, ExpertScore) for event in events) == 4
    assert definition(INSTRUMENT) in events
