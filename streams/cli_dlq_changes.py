"""What people do about dead letters: replay, discard, take. Each is one row of the audit, with who and why.

Nothing of our own is ever written twice by hand: only what other systems wrote to public topics is sent again. Past
a record of ours leads ``take``, and what a quarantine holds goes on where it was held.

Exit codes: 0 done, 1 there is no such letter or it is refused, 2 broker, database or worker are not there.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import psycopg
import typer
from rich.console import Console

from infra.kafka import KafkaFailed, Security
from infra.kafka_resend import Resender
from infra.kafka_security import security_of
from infra.postgres.dead_letters import Action, LetterFilter, find_letters, record_action
from infra.postgres.queries import NotInRecord, RecordUnreachable, Row, open_record
from infra.settings import SettingsError
from schemas.dead_letters import LetterAction
from streams import cli_dlq, cli_dlq_orders
from streams.cli_dlq import listed, the_letter
from streams.cli_dlq_options import (
    AllOption,
    AuthorOption,
    DryRunOption,
    KeyOption,
    LimitOption,
    OffsetArgument,
    PartitionArgument,
    RefusedOption,
    ReleaseOption,
    SinceOption,
    StageOption,
    TopicArgument,
    TopicOption,
    UntilOption,
    WaitOption,
    WhyOption,
    letter_filter,
    place_filter,
)
from streams.cli_dlq_orders import lift
from streams.cli_record import (
    LATEST_RUN,
    DsnOption,
    JsonOption,
    RunOption,
    author_of,
    database_of,
    one_sentence,
    print_json,
)
from streams.cli_tables import print_rows
from streams.processes import settings_of_run
from streams.resend import Resend, resend_of

app = typer.Typer(no_args_is_help=True, help="Dead letters: records that could not be used, and what to do about them.")
app.add_typer(cli_dlq.app)
app.add_typer(cli_dlq_orders.app)
_SHOWN: Final = "time topic partition offset reason stage key value_bytes detail"


@app.command()
def replay(
    place_topic: TopicArgument = None,
    partition: PartitionArgument = None,
    offset: OffsetArgument = None,
    *,
    why: WhyOption,
    topic: TopicOption = None,
    refused: RefusedOption = None,
    stage: StageOption = None,
    key: KeyOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    every: AllOption = False,
    again: Annotated[bool, typer.Option("--again", help="Also what was replayed or discarded before.")] = False,
    limit: LimitOption = 1000,
    rate: Annotated[float, typer.Option("--rate", min=0.01, max=10_000, help="At most so many a second.")] = 100.0,
    mended: Annotated[
        Path | None, typer.Option("--with", exists=True, dir_okay=False, help="Send these bytes instead.")
    ] = None,
    release: ReleaseOption = None,
    dry_run: DryRunOption = False,
    wait: WaitOption = 10.0,
    author: AuthorOption = None,
    broker: Annotated[str | None, typer.Option("--broker", help="host:port; else the run's.")] = None,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send records of public topics again, or let a stage step what a quarantine has held (--release KEY)."""
    with one_sentence():
        database = database_of(dsn, run)
        if release is not None:
            order = Action(
                action=LetterAction.STEP_HELD, author=author_of(author), why=why, stage=stage or "", key=release
            )
            lift(order, database, wait, dry_run=dry_run, as_json=as_json)
            return
        wanted = letter_filter(topic, refused, stage, key, since=since, until=until)
        place = _place(place_topic, partition, offset, stage)
        letters = _selected(database, place, replace(wanted, limit=limit), every=every, again=again)
        sends = _sends(letters, mended, author_of(author))
        if not dry_run:
            said = Action(action=LetterAction.REPLAY, author=author_of(author), why=why)
            _send_all(database, (*_broker(broker, run), rate), said, list(zip(letters, sends, strict=True)))
        _report(letters, "would be replayed" if dry_run else "replayed", as_json)


@app.command()
def discard(
    place_topic: TopicArgument = None,
    partition: PartitionArgument = None,
    offset: OffsetArgument = None,
    *,
    why: WhyOption,
    topic: TopicOption = None,
    refused: RefusedOption = None,
    stage: StageOption = None,
    key: KeyOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    every: AllOption = False,
    limit: LimitOption = 1000,
    dry_run: DryRunOption = False,
    author: AuthorOption = None,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say of dead letters that nothing will be done about them. They stay in the record."""
    with one_sentence():
        database = database_of(dsn, run)
        wanted = letter_filter(topic, refused, stage, key, since=since, until=until)
        place = _place(place_topic, partition, offset, stage)
        letters = _selected(database, place, replace(wanted, limit=limit), every=every, again=False)
        said = Action(action=LetterAction.DISCARD, author=author_of(author), why=why)
        if not dry_run:
            _refuse_flaw(said)
            with psycopg.connect(database, autocommit=True) as connection:
                for letter in letters:
                    record_action(connection, _about(letter, said))
        _report(letters, "would be discarded" if dry_run else "discarded", as_json)


def _sends(letters: Sequence[Row], mended: Path | None, author: str) -> list[Resend]:
    if mended is None:
        return [resend_of(letter, None, author) for letter in letters]
    if len(letters) != 1:
        raise NotInRecord(f"--with mends one record, and {len(letters)} are selected: name one.")
    return [resend_of(letters[0], mended.read_bytes(), author)]


def _send_all(dsn: str, broker: tuple[str, Security, float], said: Action, sends: Sequence[tuple[Row, Resend]]) -> None:
    """Send one after the other: the audit has each before the broker has it, and again, with its place, after."""
    _refuse_flaw(said)
    try:
        resender = Resender(*broker)
        with psycopg.connect(dsn, autocommit=True) as connection:
            for letter, send in sends:
                noted = replace(_about(letter, said), detail=send.detail)
                ordinal = record_action(connection, noted)
                found = resender.send(send.place, send.key, send.value, send.headers(ordinal))
                there = {"topic": send.place[0], "partition": send.place[1], "offset": found}
                record_action(connection, replace(noted, action=LetterAction.REPLAYED, detail=there))
    except KafkaFailed as error:
        raise RecordUnreachable(str(error)) from error


def _place(topic: str | None, partition: int | None, offset: int | None, stage: str | None) -> LetterFilter | None:
    if topic is None:
        return None
    if partition is None or offset is None:
        raise NotInRecord("A record has three coordinates: TOPIC PARTITION OFFSET.")
    return place_filter(topic, partition, offset, stage)


def _selected(dsn: str, place: LetterFilter | None, wanted: LetterFilter, *, every: bool, again: bool) -> list[Row]:
    """Return the letters to act upon, oldest first. Raises NotInRecord when there are none, or nothing was named."""
    with closing(open_record(dsn)) as record:
        if place is not None:
            letter = the_letter(record, place)
            if letter["status"] not in ("OPEN", "REPLAYING") and not again:
                raise NotInRecord(f"That letter is {letter['status']} already.")
            return [letter]
        if replace(wanted, limit=LetterFilter().limit) == LetterFilter() and not every:
            raise NotInRecord("Name a record, give a filter, or say --all.")
        status = None if again else "OPEN"
        letters = find_letters(record, replace(wanted, status=status), oldest_first=True)
    if not letters:
        raise NotInRecord("There is no such dead letter that is open.")
    return letters


def _about(letter: Row, said: Action) -> Action:
    key = b"" if letter["key"] is None else bytes(letter["key"])
    return replace(
        said,
        stage=letter["stage"],
        topic=letter["topic"],
        partition=letter["partition"],
        first=letter["offset"],
        last=letter["offset"],
        key=key[:256].decode(errors="backslashreplace").replace("\0", "\ufffd"),
        letter=(letter["dlq_topic"], letter["dlq_partition"], letter["dlq_offset"]),
    )


def _broker(given: str | None, run: Path | None) -> tuple[str, Security]:
    run_file = (run or LATEST_RUN) / "run.json"
    kafka = settings_of_run(run_file if run_file.exists() else None, None).kafka
    bootstrap = given or kafka.bootstrap
    if bootstrap is None:
        raise SettingsError("No broker is known here: name it with --broker, or the run with --run.")
    return bootstrap, security_of(kafka)


def _refuse_flaw(said: Action) -> None:
    if flaw := said.flaw():
        raise NotInRecord(flaw)


def _report(letters: Sequence[Row], done: str, as_json: bool) -> None:
    rows = [listed(letter) for letter in letters]
    if as_json:
        print_json(rows)
        return
    print_rows(rows, _SHOWN.split(), "", Console())
    typer.echo(f"{len(rows)} {done}.")
