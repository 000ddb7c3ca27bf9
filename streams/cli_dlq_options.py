"""What the commands about dead letters have in common: their options, and what the options ask for."""

from collections.abc import Sequence
from time import time_ns
from typing import Annotated

import typer

from infra.postgres.dead_letters import LetterFilter
from infra.postgres.queries import NotInRecord
from schemas.dead_letters import DeadLetterReason
from schemas.topics import TOPICS
from streams.given_times import iso_ns, span_ns

TopicArgument = Annotated[str | None, typer.Argument(help="The topic the record was on, or a dead-letter topic.")]
PartitionArgument = Annotated[int | None, typer.Argument(min=0)]
OffsetArgument = Annotated[int | None, typer.Argument(min=0)]
TopicOption = Annotated[str | None, typer.Option("--topic", help="The topic that the record was on.")]
RefusedOption = Annotated[str | None, typer.Option("--refused", help="Why it was refused, as MALFORMED.")]
StageOption = Annotated[str | None, typer.Option("--stage", help="Who refused it.")]
KeyOption = Annotated[str | None, typer.Option("--key", help="The record's key.")]
SinceOption = Annotated[str | None, typer.Option("--since", help="From this time (UTC), or so long ago, as 2h.")]
UntilOption = Annotated[str | None, typer.Option("--until", help="Before this time (UTC), or before so long ago.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")]
WhyOption = Annotated[str, typer.Option("--reason", help="Why; it stays in the record.")]
AuthorOption = Annotated[str | None, typer.Option("--author", help="Who does it (default: the user).")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every open letter that the filters leave.")]
WaitOption = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait until the stage has done it.")]
ReleaseOption = Annotated[str | None, typer.Option("--release", help="A key in quarantine: lift it.")]


def letter_filter(
    topic: str | None,
    reason: str | None,
    stage: str | None,
    key: str | None,
    *,
    since: str | None,
    until: str | None,
) -> LetterFilter:
    """Return what options ask for. Raises NotInRecord for what cannot be."""
    return LetterFilter(
        topic=one_of(topic, tuple(TOPICS), "topic"),
        reason=one_of(reason, tuple(DeadLetterReason), "reason"),
        stage=stage,
        key=key,
        since_ns=_time_ns(since),
        until_ns=_time_ns(until),
    )


def place_filter(topic: str, partition: int, offset: int, stage: str | None) -> LetterFilter:
    """Return the filter of one record's letters: by the record's place, or by the letter's own on a ``.dlq`` topic."""
    if topic.endswith(".dlq"):
        return LetterFilter(dlq_topic=topic, dlq_partition=partition, dlq_offset=offset, stage=stage)
    return LetterFilter(
        topic=one_of(topic, tuple(TOPICS), "topic"), partition=partition, offset=offset, stage=stage, limit=100
    )


def one_of(given: str | None, known: Sequence[str], what: str) -> str | None:
    """Return the known name that was meant, whatever its case. Raises NotInRecord."""
    if given is None:
        return None
    for name in known:
        if given.upper() == name.upper():
            return str(name)
    if what == "topic":
        raise NotInRecord(f"{given!r} is not a topic of ours; `tradermind topics` lists them.")
    raise NotInRecord(f"{given!r} is not a {what}: {', '.join(known)} are.")


def _time_ns(given: str | None) -> int | None:
    """Return a point in time in ns: an ISO time, UTC unless it says otherwise, or so long ago (``90s``, ``2h``)."""
    if given is None:
        return None
    if (ago_ns := span_ns(given)) is not None:
        return time_ns() - ago_ns
    try:
        return iso_ns(given)
    except ValueError:
        raise NotInRecord(f"{given!r} is no time: write it as 2026-11-21T15:00, or as 2h for two hours ago.") from None
