"""What ingestion remembers of one instrument's feed, and the findings that it gathers before it reports them.

Findings that could come with every record (refusals, a clock running backwards) are counted and reported at most once
per interval; the first one of a quiet stretch is reported at once.
"""

from typing import Final

import msgspec

from agents.market.depth_sync import DepthSync
from agents.market.feed_clock import FeedClock
from schemas.market import Quality, QualityKind

NEVER: Final = 2**63 - 1
REASONS_MAX: Final = 32
_TRADE_IDS_KEPT: Final = 512
_OTHER_REASONS: Final = "other reasons"


class FeedState(msgspec.Struct, kw_only=True):
    """One instrument's feed.

    ``available_ns`` is the newest time given out (it never falls), ``received_ns`` the newest record's own.
    ``*_due_ns`` are when something is to be done next. ``refused`` counts records by reason since the last report.
    """

    depth: DepthSync = msgspec.field(default_factory=DepthSync)
    clock: FeedClock = msgspec.field(default_factory=FeedClock)
    available_ns: int = 0
    received_ns: int = 0
    event_time_ns: int = 0
    stale: bool = False
    snapshot_due_ns: int = NEVER
    request_due_ns: int = 0
    request_wait_ns: int = 0
    crossed_since_ns: int = 0
    crossings: int = 0
    crossed_shown: bool = False
    crossed_due_ns: int = 0
    refused: dict[str, int] = {}
    backwards: int = 0
    reported_ns: int = 0
    report_due_ns: int = NEVER
    trade_ids: dict[str, bool] = {}
    older_trade_ids: dict[str, bool] = {}

    def refuse(self, reason: str, count: int, report_every_ns: int) -> None:
        """Count records that are not passed on."""
        if reason not in self.refused and len(self.refused) >= REASONS_MAX:
            reason = _OTHER_REASONS
        self.refused[reason] = self.refused.get(reason, 0) + count
        self.want_report(report_every_ns)

    def want_report(self, report_every_ns: int) -> None:
        """Ask for a report as soon as the last one is an interval ago."""
        if self.report_due_ns == NEVER:
            self.report_due_ns = self.reported_ns + report_every_ns

    def seen_trade(self, trade_id: str) -> bool:
        """Return whether this trade came before, within the last 512 to 1,024; remember it otherwise."""
        if trade_id in self.trade_ids or trade_id in self.older_trade_ids:
            return True
        if len(self.trade_ids) >= _TRADE_IDS_KEPT:
            self.older_trade_ids = self.trade_ids
            self.trade_ids = {}
        self.trade_ids[trade_id] = True
        return False

    def finding(self, key: str, kind: QualityKind, detail: str = "", count: int = 1) -> Quality:
        """Return a Quality event at this feed's newest times."""
        return Quality(
            key=key,
            event_time_ns=self.event_time_ns or self.available_ns,
            available_at_ns=self.available_ns,
            kind=kind,
            detail=detail,
            count=count,
        )

    def report(self, key: str, skew_report_ns: int) -> list[Quality]:
        """Return what has been gathered, and forget it."""
        found = [self.finding(key, QualityKind.REFUSED, reason, count) for reason, count in self.refused.items()]
        self.refused = {}
        if self.backwards:
            detail = "exchange time ran backwards in order of receipt"
            found.append(self.finding(key, QualityKind.CLOCK_BACKWARDS, detail, self.backwards))
            self.backwards = 0
        clock = self.clock
        if clock.settled() and abs(clock.lead_ns - clock.reported_lead_ns) >= skew_report_ns:
            clock.reported_lead_ns = clock.lead_ns
            detail = f"the exchange's clock is {clock.lead_ns} ns ahead of ours"
            found.append(self.finding(key, QualityKind.CLOCK_SKEW, detail))
        self.reported_ns = self.available_ns
        self.report_due_ns = NEVER
        return found
