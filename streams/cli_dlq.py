"""Dead letters on the command line: which there are, one in full, and what people did about them.

Exit codes: 0 answered or done, 1 what was asked for is not there or is refused, 2 there is no record to ask.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from infra.postgres.dead_letters import LetterFilter, find_actions, find_letters, raw_headers
from infra.postgres.queries import Connection, NotInRecord, Row, json_ready
from streams.cli_dlq_options import (
    KeyOption,
    LimitOption,
    SinceOption,
    StageOption,
    TopicOption,
    UntilOption,
    letter_filter,
    one_of,
    place_filter,
)
from streams.cli_record import DsnOption, JsonOption, RunOption, answer, one_sentence, print_json
from streams.cli_tables import print_rows
from streams.quarantined import held_keys

app = typer.Typer(no_args_is_help=True)

STATUSES: Final = ("OPEN", "REPLAYING", "REPLAYED", "RELEASED", "DISCARDED", "TAKEN")
_SHOWN_BYTES: Final = 256
_LINE_BYTES: Final = 16
_LISTED: Final = "time status topic partition offset reason stage key value_bytes detail"
_AUDIT: Final = "ordinal time author action why stage topic partition first_offset last_offset key detail"


@app.command(name="ls")
def list_letters(
    *,
    topic: TopicOption = None,
    reason: Annotated[str | None, typer.Option("--refused", "--reason", help="Why it was refused.")] = None,
    stage: StageOption = None,
    key: KeyOption = None,
    status: Annotated[str | None, typer.Option(help=f"One of {', '.join(STATUSES)}.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    held: Annotated[bool, typer.Option("--held", help="The keys in quarantine instead, and how many records wait.")] = (
        False
    ),
    limit: LimitOption = 20,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print dead letters, newest first."""
    if held:
        keys = [asdict(one) for one in answer(dsn, run, held_keys)]
        _show(keys, "stage shard key since held stepped", "No key is in quarantine.", as_json)
        return
    with one_sentence():
        wanted = letter_filter(topic, reason, stage, key, since=since, until=until)
        wanted = replace(wanted, limit=limit, status=one_of(status, STATUSES, "status"))

    def ask(record: Connection) -> tuple[list[Row], int]:
        return [listed(row) for row in find_letters(record, wanted)], len(held_keys(record))

    rows, quarantined = answer(dsn, run, ask)
    _show(rows, _LISTED, "There is no dead letter.", as_json)
    if quarantined and not as_json:
        typer.echo(f"\nKeys in quarantine: {quarantined} (`tradermind dlq ls --held`).")


@app.command(name="show")
def show_letter(
    topic: Annotated[str, typer.Argument(help="The topic the record was on, or a dead-letter topic.")],
    partition: Annotated[int, typer.Argument(min=0)],
    offset: Annotated[int, typer.Argument(min=0)],
    *,
    stage: StageOption = None,
    out: Annotated[Path | None, typer.Option(help="Write the record's bytes into this file.")] = None,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print one dead letter in full: its facts, headers and bytes, and what people did about it."""

    def ask(record: Connection) -> tuple[Row, list[Row]]:
        letter = the_letter(record, place_filter(topic, partition, offset, stage))
        place = (letter["dlq_topic"], letter["dlq_partition"], letter["dlq_offset"])
        return letter, [json_ready(row) for row in find_actions(record, place)]

    letter, actions = answer(dsn, run, ask)
    value = letter["value"]
    if out is not None:
        out.write_bytes(value or b"")
    if as_json:
        content = listed(letter) | {"value": _base64(value), "key": _base64(letter["key"]), "actions": actions}
        stored = letter["raw_headers"]
        headers = [[name, _base64(part)] for name, part in raw_headers(stored)] if stored is not None else None
        print_json(content | {"headers": headers})
        return
    _print_letter(letter, actions, Console())


@app.command(name="audit")
def show_audit(
    *, limit: LimitOption = 20, dsn: DsnOption = None, run: RunOption = None, as_json: JsonOption = False
) -> None:
    """Print what people did about dead letters, newest first."""
    rows = answer(dsn, run, lambda record: [json_ready(row) for row in find_actions(record, None, limit)])
    _show(rows, _AUDIT, "Nobody has done anything about a dead letter.", as_json)


def the_letter(record: Connection, wanted: LetterFilter) -> Row:
    """Return the one letter of a record; a newer copy of the same letter stands for the older. Raises NotInRecord."""
    letters = find_letters(record, wanted)
    place = f"{wanted.topic or wanted.dlq_topic}"
    if not letters:
        raise NotInRecord(
            f"There is no dead letter of that record on {place}; `tradermind dlq ls` lists what there is."
        )
    stages = sorted({str(letter["stage"]) for letter in letters})
    if len(stages) > 1:
        raise NotInRecord(f"{', '.join(stages)} have refused that record: name one with --stage.")
    return letters[0]


def listed(row: Row) -> Row:
    """Return a letter as a list shows it: without its bytes, and its key as text."""
    hidden = ("value", "raw_headers", "recorded_at_ns")
    shown = {name: value for name, value in row.items() if name not in hidden}
    shown["key"] = None if row["key"] is None else bytes(row["key"])[:80].decode(errors="backslashreplace")
    return json_ready(shown)


def _base64(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(bytes(content)).decode()


def _print_letter(letter: Row, actions: Sequence[Row], console: Console) -> None:
    for name, value in listed(letter).items():
        console.print(Text(f"{name:14}  {'-' if value is None else value}"), soft_wrap=True)
    stored = letter["raw_headers"]
    for name, content in raw_headers(stored) if stored is not None else []:
        text = "-" if content is None else content[:200].decode(errors="backslashreplace")
        console.print(Text(f"header          {name}: {text}"), soft_wrap=True)
    console.print(Text(hex_lines(letter["value"])), soft_wrap=True)
    if actions:
        console.print()
        print_rows(actions, ["time", "author", "action", "why", "detail"], "", console)


def hex_lines(value: bytes | None) -> str:
    """Return the beginning of a value as a person reads bytes: offsets, hexadecimal, and what is text."""
    if value is None:
        return "no value"
    shown = bytes(value)[:_SHOWN_BYTES]
    lines = []
    for start in range(0, len(shown), _LINE_BYTES):
        part = shown[start : start + _LINE_BYTES]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):{3 * _LINE_BYTES}} {text}")
    more = len(value) - len(shown)
    return "\n".join([*lines, f"... and {more:,} bytes more; --out FILE writes all of them"] if more else lines)


def _show(rows: Sequence[Mapping[str, Any]], columns: str, none: str, as_json: bool) -> None:
    if as_json:
        print_json([dict(row) for row in rows])
    else:
        print_rows(rows, columns.split(), none, Console())
