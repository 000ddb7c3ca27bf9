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
