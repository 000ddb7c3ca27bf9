"""What a checker finds: one sentence, and both sides of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept: which, where, what should be there, and what is."""

    promise: str
    place: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.place}\n  expected: {self.expected}\n  found:    {self.found}"


def shortened(value: object) -> str:
    """Return a value as text of bearable length."""
    text = repr(value)
    return text if len(text) <= 1500 else f"{text[:1500]}... ({len(text)} characters)"


def sides(expected: object, found: object) -> tuple[str, str]:
    """Return both as text of bearable length, cut so that the first difference is seen."""
    texts = repr(expected), repr(found)
    shorter = min(map(len, texts))
    first = next((n for n in range(shorter) if texts[0][n] != texts[1][n]), shorter)
    start = max(0, first - 300) if first > 1200 else 0
    left, right = (shortened_text(text, start) for text in texts)
    return left, right


def shortened_text(text: str, start: int) -> str:
    """Return a text from ``start`` on, of bearable length."""
    return f"{'...' if start else ''}{text[start : start + 1500]}{'...' if len(text) > start + 1500 else ''}"
