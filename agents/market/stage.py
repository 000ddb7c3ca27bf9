"""Ingestion: from what a feed sends to what the platform may trust, in one order, with every doubt said aloud.

Nothing disappears: a record is passed on, waits (bounded) for a snapshot, or is counted in a Quality(REFUSED). A book
is either right or absent: a gap, or a book that stays crossed, empties it until a fresh snapshot fits.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec.structs import replace

from agents.market.depth_intake import DepthIntake
from agents.market.feed_state import FeedState
from agents.market.settings import IngestionConfig
from agents.market.well_formed import (
    flaw_of_bar,
    flaw_of_quote,
    flaw_of_snapshot,
    flaw_of_trade,
    flaw_of_update,
)
from agents.stage import NO_EVENTS, ShardState
from schemas.event import Event, Heartbeat
from schemas.market import (
    BookSnapshot,
    DepthUpdate,
    Quality,
    QualityKind,
    Quote,
    Trade,
    VenueBar,
)

__all__ = ["CLOSING", "UNKNOWN", "Ingestion", "IngestionConfig"]

CLOSING: Final = "closing"
"""The clock of a feed's last Heartbeat: all that has been gathered is reported, so every record is accounted for."""

UNKNOWN: Final = "unknown"
"""State key and record key of what came for instruments that nobody defined."""


class Ingestion:
    """The stage: raw market events of a feed in, ``market.event`` out. State: one FeedState per instrument."""

    name = "ingestion"

    def __init__(self, config: IngestionConfig) -> None:
        self._config = config
        self._depth = DepthIntake(config)
        self._takers: dict[type[Event], Callable[[FeedState, Any, list[Event]], None]] = {
            Quote: self._quote,
            Trade: self._trade,
            DepthUpdate: self._update,
            BookSnapshot: self._snapshot,
            VenueBar: self._bar,
            Quality: self._quality,
        }

    def state_type(self, key: str) -> type:  # noqa: ARG002 - the Stage protocol names it
        """Every key holds a FeedState."""
        return FeedState

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Take one raw event. Raises KeyError for a type that no feed may send."""
        if type(event) is Heartbeat:
            return state, self._heartbeat(state, event)
        key = event.key
        outputs: list[Event] = []
        feed: FeedState | None = state.get(key)
        if feed is None:
            if key not in self._config.instruments:
                return state, self._unknown(state, event)
            feed = FeedState()
            self._define(feed, event, outputs)
        self._takers[type(event)](feed, event, outputs)
        if feed.available_ns >= feed.report_due_ns:
            outputs.extend(feed.report(key, self._config.skew_report_ns))
        state[key] = feed
        return state, outputs

    def _define(self, feed: FeedState, event: Event, outputs: list[Event]) -> None:
        now = event.available_at_ns
        feed.available_ns = now
        definition = self._config.instruments[event.key]
        outputs.append(replace(definition, event_time_ns=now, available_at_ns=now))
        if definition.inferred:
            detail = f"tick {definition.tick_size}, lot {definition.lot_size} in units of 1e-8"
            outputs.append(feed.finding(event.key, QualityKind.INCREMENTS_INFERRED, detail))

    def _unknown(self, state: ShardState, event: Event) -> Sequence[Event]:
        feed: FeedState = state.get(UNKNOWN) or FeedState()
        feed.available_ns = max(feed.available_ns, event.available_at_ns)
        feed.refuse(f"unknown instrument {event.key[:64]}", 1, self._config.report_every_ns)
        due = feed.available_ns >= feed.report_due_ns
        found = feed.report(UNKNOWN, self._config.skew_report_ns) if due else NO_EVENTS
        state[UNKNOWN] = feed
        return found

    def _admit(self, feed: FeedState, event: Event, flaw: str | None, outputs: list[Event]) -> bool:
        """Judge a record's shape and time stamps; when it may be used, move the feed's times to it."""
        config = self._config
        now = event.available_at_ns
        if now > feed.available_ns:
            feed.available_ns = now
        if flaw is not None:
            feed.refuse(flaw, 1, config.report_every_ns)
            return False
        clock = feed.clock
        happened = event.event_time_ns
        lead = happened - now
        if lead:
            # Without a clock of its own a venue's record bears the time of receipt, which teaches nothing.
            if -config.skew_max_ns <= lead <= config.skew_max_ns:
                clock.learn(lead)
            if lead > clock.lead_ns + config.future_limit_ns:
                feed.refuse("event time in the future", 1, config.report_every_ns)
                return False
            if happened < clock.newest_ns:
                feed.backwards += 1
                feed.want_report(config.report_every_ns)
            else:
                clock.newest_ns = happened
        feed.event_time_ns = happened
        feed.received_ns = now
        if feed.stale:
            feed.stale = False
            outputs.append(feed.finding(event.key, QualityKind.FRESH))
        return True

    def _quote(self, feed: FeedState, quote: Quote, outputs: list[Event]) -> None:
        if self._admit(feed, quote, flaw_of_quote(quote), outputs):
            outputs.append(replace(quote, available_at_ns=feed.available_ns))

    def _trade(self, feed: FeedState, trade: Trade, outputs: list[Event]) -> None:
        if not self._admit(feed, trade, flaw_of_trade(trade), outputs):
            return
        if feed.seen_trade(trade.trade_id):
            feed.refuse("trade already seen", 1, self._config.report_every_ns)
            return
        outputs.append(replace(trade, available_at_ns=feed.available_ns))

    def _bar(self, feed: FeedState, bar: VenueBar, outputs: list[Event]) -> None:
        if self._admit(feed, bar, flaw_of_bar(bar), outputs):
            outputs.append(replace(bar, available_at_ns=feed.available_ns))

    def _quality(self, feed: FeedState, quality: Quality, outputs: list[Event]) -> None:
        feed.available_ns = max(feed.available_ns, quality.available_at_ns)
        outputs.append(replace(quality, available_at_ns=feed.available_ns))
        if quality.kind is QualityKind.RESYNC:
            # A new connection: nothing that waits from the old one can be joined to it.
            if feed.depth.pending:
                feed.refuse("diff of a connection that ended", len(feed.depth.pending), self._config.report_every_ns)
                feed.depth.pending = []
            self._depth.lose(quality.key, feed, outputs)
            feed.clock.newest_ns = 0

    def _update(self, feed: FeedState, update: DepthUpdate, outputs: list[Event]) -> None:
        if self._admit(feed, update, flaw_of_update(update), outputs):
            self._depth.update(feed, update, outputs)

    def _snapshot(self, feed: FeedState, snapshot: BookSnapshot, outputs: list[Event]) -> None:
        if self._admit(feed, snapshot, flaw_of_snapshot(snapshot), outputs):
            self._depth.snapshot(feed, snapshot, outputs)

    def _heartbeat(self, state: ShardState, beat: Heartbeat) -> Sequence[Event]:
        outputs: list[Event] = [replace(beat)]
        now = beat.available_at_ns
        closing = beat.clock == CLOSING
        # A restored state may hold its keys in another order, and outputs may not depend on it.
        for key in sorted(state):
            feed: FeedState = state[key]
            if self._due(feed, now):
                self._tick(key, feed, now, outputs)
                state[key] = feed
            if closing:
                self._close(key, feed, outputs)
                state[key] = feed
        return outputs

    def _due(self, feed: FeedState, now: int) -> bool:
        """Return whether time alone calls for something; otherwise a Heartbeat leaves the state untouched."""
        return (
            now >= feed.report_due_ns
            or now >= feed.snapshot_due_ns
            or self._falls_stale(feed, now)
            or feed.crossed_since_ns > 0
            or (feed.depth.waiting and now >= feed.request_due_ns)
        )

    def _falls_stale(self, feed: FeedState, now: int) -> bool:
        return not feed.stale and feed.received_ns > 0 and now - feed.received_ns >= self._config.stale_after_ns

    def _tick(self, key: str, feed: FeedState, now: int, outputs: list[Event]) -> None:
        config = self._config
        feed.available_ns = max(feed.available_ns, now)
        if self._falls_stale(feed, now):
            feed.stale = True
            outputs.append(feed.finding(key, QualityKind.STALE, f"nothing for {now - feed.received_ns} ns"))
        if feed.crossed_since_ns:
            self._depth.judge_crossing(key, feed, outputs)
        if feed.depth.waiting:
            self._depth.request(key, feed, outputs)
        if now >= feed.snapshot_due_ns:
            feed.snapshot_due_ns = now + config.snapshot_every_ns
            outputs.append(feed.depth.book.snapshot(key, feed.event_time_ns, feed.available_ns))
        if now >= feed.report_due_ns:
            outputs.extend(feed.report(key, config.skew_report_ns))

    def _close(self, key: str, feed: FeedState, outputs: list[Event]) -> None:
        """Report everything: diffs that still wait for a snapshot will never be used."""
        if feed.depth.pending:
            feed.refuse("the feed ended before a snapshot fitted", len(feed.depth.pending), 0)
            feed.depth.pending = []
        outputs.extend(feed.report(key, self._config.skew_report_ns))
