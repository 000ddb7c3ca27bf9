"""Toy workers whose state is kept by instrument, and the rescale command over them, as processes to be killed.

Run as a program: ``worker JSON`` (the arguments of engine_toys), or ``rescale JSON`` with ``partitions``, ``die_after``
(the step after which the process ends without a word) and the engine's ``bootstrap`` and ``dsn``.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import engine_toys
from engine_toys import HOSTINGS, Tally

from agents.stage import NO_EVENTS, ShardState
from infra.settings import load_settings
from infra.topic_specs import topic_specs
from schemas.event import Event, Heartbeat
from schemas.feedback import ExpertScore
from schemas.opinions import Bar
from schemas.topics import BALLOT_REQUEST, EXPERT_VOTE, FEATURE_SNAPSHOT, FEEDBACK_SCORE
from streams.engine.ports import EngineSettings, StageHosting, StageKind
from streams.rescale import RescaleOrder, Rescaling
from streams.rescale_state import KeyRule
from streams.standstill import DEPARTURE_S


class ToyVoting:
    """Outbox over four keyed topics: counts, per instrument, the bars and the scores, each with a digest."""

    name = "voting"

    def state_type(self, key: str) -> type:
        """Return the one type."""
        return Tally

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Count an effect."""
        if type(event) is Heartbeat:
            return state, NO_EVENTS
        assert isinstance(event, Bar | ExpertScore)
        key = f"{event.key}/{type(event).__name__}"
        state[key] = state.get(key, Tally()).after(event.event_id)
        return state, NO_EVENTS


VOTING = StageHosting(
    name="voting",
    topics=(FEATURE_SNAPSHOT, EXPERT_VOTE, BALLOT_REQUEST, FEEDBACK_SCORE),
    make_stage=ToyVoting,
    kind=StageKind.OUTBOX,
    wall_clock=True,
)
TOY_RULES = {
    "experts": KeyRule(re.compile("(TOY:I[0-9]+)")),
    "voting": KeyRule(re.compile("(TOY:I[0-9]+)/(?:Bar|ExpertScore)")),
}


def command(what: str, arguments: dict[str, Any]) -> list[str]:
    """Return the command line of a process."""
    return [sys.executable, __file__, what, json.dumps(arguments)]


def toy_rescaling(arguments: dict[str, Any], die: Callable[[], NoReturn]) -> Rescaling:
    """Return the rescale of a toy run; it dies after the step that ``die_after`` names."""
    partitions, die_after = arguments["partitions"], arguments.get("die_after")

    def observe(step: str) -> None:
        if step == die_after:
            die()

    engine = EngineSettings(
        bootstrap=arguments["bootstrap"],
        dsn=arguments["dsn"],
        instrument_partitions=partitions,
        settings_hash="toy",
        code_version="1",
        codec=engine_toys.toy_codec(),
    )
    order = RescaleOrder(
        partitions=partitions,
        specs=topic_specs(load_settings(None, {"kafka.instrument_partitions": partitions})),
        author="test",
        why="test",
        without_sinks=arguments.get("without_sinks", True),
        quiet_s=0.3,
        departure_s=arguments.get("departure_s", DEPARTURE_S),
    )
    return Rescaling(engine, order, observe, TOY_RULES)


def main(what: str, arguments: dict[str, Any]) -> int:
    """Run a worker, or the command."""
    if what == "worker":
        HOSTINGS["voting"] = VOTING
        return engine_toys.main(arguments)
    toy_rescaling(arguments, lambda: os._exit(9)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], json.loads(sys.argv[2])))
