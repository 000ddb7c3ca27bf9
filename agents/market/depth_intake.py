"""What ingestion does with depth: sync, gaps, crossings, and asking for snapshots."""

from msgspec.structs import replace

from agents.market.feed_state import NEVER, FeedState
from agents.market.settings import IngestionConfig
from schemas.event import Event
from schemas.market import BookSnapshot, DepthUpdate, QualityKind


class DepthIntake:
    """Takes admitted depth records of any instrument; what it remembers is in the FeedState."""

    def __init__(self, config: IngestionConfig) -> None:
        self._config = config

    def update(self, feed: FeedState, update: DepthUpdate, outputs: list[Event]) -> None:
        """Take a diff: apply and pass it on, keep it for a snapshot, or find the gap before it."""
        depth = feed.depth
        config = self._config
        if not depth.synchronised:
            if not depth.fed:
                depth.fed = True
                outputs.append(feed.finding(update.key, QualityKind.UNSYNCHRONISED, "no snapshot yet"))
            dropped = depth.keep(update, config.pending_max)
            if dropped:
                feed.refuse("diff waited too long for a snapshot", dropped, config.report_every_ns)
            self.request(update.key, feed, outputs)
        elif depth.covered(update):
            feed.refuse("diff already in the book", 1, config.report_every_ns)
        elif depth.follows(update):
            depth.extend(update)
            outputs.append(replace(update, available_at_ns=feed.available_ns))
            if feed.crossed_since_ns or depth.book.crossed:
                self.judge_crossing(update.key, feed, outputs)
        else:
            detail = f"book at {depth.book.update_id}, next diff {update.first_update_id} to {update.last_update_id}"
            outputs.append(feed.finding(update.key, QualityKind.GAP, detail))
            self.lose(update.key, feed, outputs)
            depth.keep(update, config.pending_max)
            self.request(update.key, feed, outputs)

    def snapshot(self, feed: FeedState, snapshot: BookSnapshot, outputs: list[Event]) -> None:
        """Take a whole book: start from it, or check ours against it."""
        depth = feed.depth
        key = snapshot.key
        if depth.synchronised:
            if snapshot.update_id < depth.book.update_id:
                feed.refuse("snapshot older than the book", 1, self._config.report_every_ns)
                return
            if snapshot.update_id == depth.book.update_id:
                if not depth.differs(snapshot):
                    outputs.append(replace(snapshot, available_at_ns=feed.available_ns))
                    return
                outputs.append(feed.finding(key, QualityKind.GAP, "the book differs from the venue's snapshot"))
                self.lose(key, feed, outputs)
        self._adopt(feed, snapshot, outputs)

    def _adopt(self, feed: FeedState, snapshot: BookSnapshot, outputs: list[Event]) -> None:
        config = self._config
        key = snapshot.key
        was_synchronised = feed.depth.synchronised
        adoption = feed.depth.adopt(snapshot)
        if adoption.covered:
            feed.refuse("diff covered by the snapshot", adoption.covered, config.report_every_ns)
        if not adoption.complete:
            feed.refuse("snapshot does not reach the diffs that wait", 1, config.report_every_ns)
            if adoption.behind_hole:
                feed.refuse("diff followed by a gap", adoption.behind_hole, config.report_every_ns)
            self.request(key, feed, outputs)
            return
        outputs.append(replace(snapshot, available_at_ns=feed.available_ns))
        if not was_synchronised:
            outputs.append(feed.finding(key, QualityKind.SYNCHRONISED, f"at {snapshot.update_id}"))
        outputs.extend([replace(update, available_at_ns=feed.available_ns) for update in adoption.applied])
        feed.snapshot_due_ns = feed.available_ns + config.snapshot_every_ns
        feed.request_due_ns = feed.request_wait_ns = 0
        if feed.crossed_since_ns or feed.depth.book.crossed:
            self.judge_crossing(key, feed, outputs)

    def lose(self, key: str, feed: FeedState, outputs: list[Event]) -> None:
        """Stop trusting the book."""
        if feed.depth.synchronised:
            outputs.append(feed.finding(key, QualityKind.UNSYNCHRONISED, "until a fresh snapshot fits"))
        feed.depth.lose()
        feed.snapshot_due_ns = NEVER
        feed.crossed_since_ns = 0
        feed.crossed_shown = False

    def request(self, key: str, feed: FeedState, outputs: list[Event]) -> None:
        """Ask for a snapshot, and again after a wait that doubles."""
        if feed.available_ns < feed.request_due_ns:
            return
        config = self._config
        outputs.append(feed.finding(key, QualityKind.SNAPSHOT_REQUESTED))
        wait = feed.request_wait_ns or config.request_wait_ns
        feed.request_due_ns = feed.available_ns + wait
        feed.request_wait_ns = min(2 * wait, config.request_wait_max_ns)

    def judge_crossing(self, key: str, feed: FeedState, outputs: list[Event]) -> None:
        """Report a crossed book, or one that is right again; a book that stays crossed is lost."""
        config = self._config
        now = feed.available_ns
        if not feed.depth.book.crossed:
            if feed.crossed_shown:
                outputs.append(feed.finding(key, QualityKind.UNCROSSED))
            feed.crossed_since_ns = 0
            feed.crossed_shown = False
            return
        if not feed.crossed_since_ns:
            feed.crossed_since_ns = now
            feed.crossings += 1
        if not feed.crossed_shown and now >= feed.crossed_due_ns:
            outputs.append(feed.finding(key, QualityKind.CROSSED, count=feed.crossings))
            feed.crossed_shown = True
            feed.crossings = 0
            feed.crossed_due_ns = now + config.report_every_ns
        if now - feed.crossed_since_ns >= config.crossed_max_ns:
            outputs.append(feed.finding(key, QualityKind.GAP, "the book stays crossed"))
            self.lose(key, feed, outputs)
            self.request(key, feed, outputs)
