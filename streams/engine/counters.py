"""What a shard has done since it was claimed, as ``worker_status`` tells it."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """What a shard has done since it was claimed."""

    records: int = 0
    events_out: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    skipped: int = 0
    left_to_stage: int = 0
    external: int = 0
    batches: int = 0
    checkpoints: int = 0
    by_reason: dict[str, int] = field(default_factory=dict)
    feed_records: int = 0
    feed_refused: int = 0
    feed_finished: bool = False
    quarantined_keys: int = 0

    def refused(self, reason: str) -> None:
        """Count one dead letter."""
        self.dead_letters += 1
        self.by_reason[reason] = self.by_reason.get(reason, 0) + 1
