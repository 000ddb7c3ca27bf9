"""Windows over time buckets: a list that grows to twice its window and is then cut, so a push is O(1) amortised."""


def push(ring: list[int], value: int, kept: int) -> None:
    """Append one bucket's value and forget what lies more than ``kept`` buckets back, at the latest at twice that."""
    ring.append(value)
    if len(ring) > 2 * kept:
        del ring[:-kept]


def push_same(ring: list[int], value: int, count: int, kept: int) -> None:
    """Append the same value for ``count`` buckets in a row."""
    if count == 1:
        push(ring, value, kept)
    elif count > 1:
        ring.extend([value] * min(count, kept))
        if len(ring) > 2 * kept:
            del ring[:-kept]


def window_sum(ring: list[int], buckets: int) -> int | None:
    """Return the sum over the last ``buckets``, or None while fewer have passed."""
    return sum(ring[-buckets:]) if len(ring) >= buckets else None
