"""The simulated market as a feed: what its population does, with Heartbeats of its own clock between."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from agents.sim.population_engine import PopulationEngine
from schemas.event import Event, Heartbeat
from schemas.market import Quality, QualityKind
from schemas.values import NS_PER_MS

BEAT_NS: Final = 100 * NS_PER_MS


def population_records(
    engine: PopulationEngine,
    instruments: Iterable[str],
    start_ns: int,
    advance: Callable[[int], None],
    end_ns: int | None = None,
) -> Iterator[tuple[Event, ...]]:
    """Yield the market's events up to ``end_ns`` (None: for ever), each with the Heartbeats before it.

    ``advance`` lets whoever trades there, and with it the engine, act until a time: the venue moves the market, its
    orders meet the same book, in the order of time. Nothing here has an identity yet.
    """
    beat_ns = start_ns
    for event in _events(engine, instruments, start_ns, advance, end_ns):
        beats: list[Event] = []
        while beat_ns + BEAT_NS <= event.available_at_ns:
            beat_ns += BEAT_NS
            beats.append(
                Heartbeat(key="market.event", event_time_ns=beat_ns, available_at_ns=beat_ns, clock="simulated")
            )
        yield (*beats, event)


def _events(
    engine: PopulationEngine,
    instruments: Iterable[str],
    start_ns: int,
    advance: Callable[[int], None],
    end_ns: int | None,
) -> Iterator[Event]:
    for name in sorted(instruments):
        opening: dict[str, Any] = {"event_time_ns": start_ns, "available_at_ns": start_ns}
        yield Quality(key=name, kind=QualityKind.RESYNC, **opening)
    while (now_ns := engine.next_time_ns or 0) <= (now_ns if end_ns is None else end_ns):
        advance(now_ns)
        yield from engine.take_events()
