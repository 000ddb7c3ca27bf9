"""Orders to a stage about records: take one that it cannot step, and lift the quarantine of a key.

The order is a row of the audit. The worker reads it and journals it as an input; one that is down carries it out when
it comes up, before the first record.

Exit codes: 0 ordered, 1 there is no such record or key or it is refused, 2 there is no record to ask.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Final

import psycopg
import typer

from infra.postgres.dead_letters import Action, is_passed, record_action
from infra.postgres.queries import NotInRecord, open_record
from schemas.dead_letters import LetterAction
from schemas.topics import TOPICS
from streams.cli_dlq_options import (
    AuthorOption,
    DryRunOption,
    OffsetArgument,
    PartitionArgument,
    ReleaseOption,
    StageOption,
    TopicArgument,
    WaitOption,
    WhyOption,
)
from streams.cli_record import DsnOption, JsonOption, RunOption, author_of, database_of, one_sentence, print_json
from streams.quarantined import held_keys, next_offsets, progress_of, readers_of, reads_as_sink

app = typer.Typer(no_args_is_help=True)
SINKS: Final = "sinks"
_POLL_S: Final = 0.1


@app.command()
def take(
    place_topic: TopicArgument = None,
    partition: PartitionArgument = None,
    offset: OffsetArgument = None,
    *,
    why: WhyOption,
    through: Annotated[int | None, typer.Option("--through", min=0, help="Take all up to this offset.")] = None,
    stage: StageOption = None,
    release: ReleaseOption = None,
    dry_run: DryRunOption = False,
    wait: WaitOption = 3.0,
    author: AuthorOption = None,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a stage pass over a record that it cannot step, or leave behind what is held (--release KEY)."""
    with one_sentence():
        database = database_of(dsn, run)
        if release is not None:
            lift(
                Action(action=LetterAction.RELEASE, author=author_of(author), why=why, stage=stage or "", key=release),
                database,
                wait,
                dry_run=dry_run,
                as_json=as_json,
            )
            return
        if place_topic is None or partition is None or offset is None:
            raise NotInRecord("Name the record to take: TOPIC PARTITION OFFSET.")
        order = Action(
            action=LetterAction.TAKE,
            author=author_of(author),
            why=why,
            stage=_stage_before(database, place_topic, partition, offset, stage),
            topic=place_topic,
            partition=partition,
            first=offset,
            last=offset if through is None else through,
        )
        _order(order, database, wait, dry_run=dry_run, as_json=as_json)


def _stage_before(dsn: str, topic: str, partition: int, offset: int, stage: str | None) -> str:
    """Return the one stage that has not passed a record yet. Raises NotInRecord when it is none, or not one.

    Where the sinks stand is Kafka's to know: they have to be named, but for what only they read.
    """
    read, alone = reads_as_sink(topic)
    if (read and stage == SINKS) or (alone and stage is None):
        return SINKS
    if stage == SINKS:
        raise NotInRecord(f"The sinks do not read {topic!r}.")
    if topic not in TOPICS:
        raise NotInRecord(f"{topic!r} is not a topic of ours; `tradermind topics` lists them.")
    readers = readers_of(TOPICS[topic])
    if stage is not None and stage not in readers:
        raise NotInRecord(f"{stage} does not step {topic}; {', '.join(readers) or 'nobody'} does.")
    with closing(open_record(dsn)) as record:
        stand = next_offsets(record, topic, partition)
    before = [name for name, at in sorted(stand.items()) if at <= offset and stage in (None, name)]
    if len(before) == 1:
        return before[0]
    if before:
        raise NotInRecord(f"{', '.join(before)} have not stepped that record yet: name one with --stage.")
    where = ", ".join(f"{name} stands at {at}" for name, at in sorted(stand.items()) if stage in (None, name))
    raise NotInRecord(f"No stage has that record before it ({where or 'none was ever up'}): there is nothing to take.")


def lift(order: Action, dsn: str, wait_s: float, *, dry_run: bool, as_json: bool) -> None:
    """Order the end of a key's quarantine; without a stage, at the one that has it. Raises NotInRecord."""
    with closing(open_record(dsn)) as record:
        held = [one for one in held_keys(record) if one.key == order.key and order.stage in ("", one.stage)]
    if not held:
        where = f" at {order.stage}" if order.stage else ""
        raise NotInRecord(f"{order.key!r} is not in quarantine{where}; `tradermind dlq ls --held` lists what is.")
    if len(held) > 1:
        stages = ", ".join(one.stage for one in held)
        raise NotInRecord(f"{order.key!r} is in quarantine at {stages}: name one with --stage.")
    detail = {"since": held[0].since, "held": held[0].held, "stepped": held[0].stepped}
    _order(replace(order, stage=held[0].stage, detail=detail), dsn, wait_s, dry_run=dry_run, as_json=as_json)


def _order(order: Action, dsn: str, wait_s: float, *, dry_run: bool, as_json: bool) -> None:
    """Write an order down and wait until the stage has carried it out; one that is down does it when it comes up."""
    if flaw := order.flaw():
        raise NotInRecord(flaw)
    ordinal, done = None, False
    if not dry_run:
        with psycopg.connect(dsn, autocommit=True) as connection:
            ordinal = record_action(connection, order)
            done = _until(partial(_is_done, connection, order, ordinal), wait_s)
    what = order.key or f"{order.topic}/{order.partition} from {order.first} to {order.last}"
    if as_json:
        print_json({"ordinal": ordinal, "action": order.action, "stage": order.stage, "done": done, "dry_run": dry_run})
    elif dry_run:
        typer.echo(f"{order.action} {what} would be ordered of {order.stage}.")
    else:
        later = "the sinks come to it" if order.stage == SINKS else "the stage comes up"
        how = "done" if done else f"it is done when {later}"
        typer.echo(f"{order.action} {what} is ordered of {order.stage} (order {ordinal}): {how}.")


def _is_done(connection: psycopg.Connection[Any], order: Action, ordinal: int) -> bool:
    """Tell whether it is carried out. Raises NotInRecord for a record that was stepped before the order came."""
    if order.stage == SINKS:
        return is_passed(connection, order)
    for (stage, shard), progress in progress_of(connection).items():
        letters = progress.letters
        lane = f"{order.topic}/{order.partition}"
        if stage != order.stage or (order.action is LetterAction.TAKE and shard not in (str(order.partition), lane)):
            continue
        if order.action is LetterAction.STEP_HELD:
            return letters.stepped_orders >= ordinal
        if letters.orders >= ordinal:
            taken = any(last == order.last for _, last in letters.taken.get(lane, ()))
            if order.action is LetterAction.TAKE and not taken:
                raise NotInRecord(f"{stage} had stepped {lane} {order.last} before the order came: it is not taken.")
            return True
    return False


def _until(holds: Callable[[], bool], wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while not holds():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True
