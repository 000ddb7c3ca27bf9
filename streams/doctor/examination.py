"""How checks are run: each by itself, all at once, none for longer than its time, and whatever goes wrong is a finding.

Here alone an error that nobody expected is not shown as one: whoever asks what is wrong gets an answer for every check.
"""

import enum
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

CHECK_S: Final = 12.0
"""So long a check may take; all of them run beside each other, so this bounds the whole."""


class State(enum.StrEnum):
    """How a check came out. A warning stops nobody; what failed will stop a worker, or lose something."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, in one sentence, and in one more how it is mended (None where nothing is to be done)."""

    check: str
    state: State
    said: str
    mend: str | None = None


def ok(check: str, said: str) -> Finding:
    """Return a finding of what is as it should be."""
    return Finding(check, State.OK, said)


def warning(check: str, said: str, mend: str) -> Finding:
    """Return a finding of what stops nobody today."""
    return Finding(check, State.WARNING, said, mend)


def failed(check: str, said: str, mend: str) -> Finding:
    """Return a finding of what must be mended."""
    return Finding(check, State.FAILED, said, mend)


@dataclass(frozen=True, slots=True)
class Check:
    """One question: its name, and the function that answers with at least one finding. Whatever it raises is told."""

    name: str
    ask: Callable[[], Iterable[Finding]]


def examine(checks: Sequence[Check], limit_s: float = CHECK_S) -> list[Finding]:
    """Return what every check found, in their order, after at most about ``limit_s``."""
    answers: list[list[Finding] | None] = [None] * len(checks)

    def answer(place: int, check: Check) -> None:
        try:
            answers[place] = list(check.ask())
        except Exception as error:
            answers[place] = [failed(check.name, f"The check itself broke off: {_said(error)}.", _LOOK)]

    threads = [
        threading.Thread(target=answer, args=(place, check), name=f"check {check.name}", daemon=True)
        for place, check in enumerate(checks)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"Nothing was found out within {limit_s:g} s."
    return [
        finding
        for check, found in zip(checks, answers, strict=True)
        for finding in (found if found is not None else [failed(check.name, late, _SLOW)])
    ]


_LOOK: Final = "Look at what it asks by hand, and tell us: a check should say more."
_SLOW: Final = "See whether a firewall swallows the connection, or the server is overloaded."


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 where all is well, 1 where there are warnings only, 2 where something failed."""
    states = {finding.state for finding in findings}
    if State.FAILED in states:
        return 2
    return 1 if State.WARNING in states else 0


def _said(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
