"""What a shard has already seen: the last (generation, seq) of each source, and the ids of records from outside."""

from typing import Final

import msgspec

from schemas.event import Event

WINDOW_MAX: Final = 20_000


class SeenPositions(msgspec.Struct):
    """Per ``topic/partition``: source -> (generation, seq), and a bounded window of outsiders' event ids."""

    positions: dict[str, dict[str, tuple[int, int]]] = {}
    windows: dict[str, dict[str, None]] = {}

    def is_new(self, lane: str, event: Event) -> bool:
        """Take note of an event on ``lane`` (topic/partition); return False when it was there before."""
        if not event.source:
            return self._is_new_id(lane, event.event_id)
        sources = self.positions.get(lane)
        if sources is None:
            sources = self.positions[lane] = {}
        position = (event.generation, event.seq)
        last = sources.get(event.source)
        if last is not None and position <= last:
            return False
        sources[event.source] = position
        return True

    def forget(self, lane: str, event_id: str) -> None:
        """Let an outsider's record that was refused come again under the same id."""
        self.windows.get(lane, {}).pop(event_id, None)

    def _is_new_id(self, lane: str, event_id: str) -> bool:
        window = self.windows.setdefault(lane, {})
        if event_id in window:
            return False
        window[event_id] = None
        if len(window) > WINDOW_MAX:
            del window[next(iter(window))]
        return True
