"""The audit for people: is it sound, what does it say, a new key, going on after somebody changed it, and retention.

Exit codes: 0 sound or done, 1 tampered with (or nothing there to show), 2 wrong settings or surroundings.
"""

import asyncio
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import psycopg
import typer
from rich.console import Console

from infra.audit_keys import AuditKeys, add_key, load_keys
from infra.postgres.audit_anchors import Anchor, forged, read_anchors
from infra.postgres.audit_record import STREAMS
from infra.postgres.audit_reseal import Reseal, reseal
from infra.postgres.audit_retention import CLASSES, Kept, cutoff_ns, past_retention
from infra.postgres.audit_verify import StreamReport, Verifier, read_rows
from infra.postgres.projections import drop_market_days
from infra.postgres.queries import NotInRecord, RecordUnreachable
from infra.settings import DEFAULT_FILE, SettingsError, load_settings
from infra.settings_audit import AuditSettings
from streams.cli_record import (
    LATEST_RUN,
    DsnOption,
    JsonOption,
    RunOption,
    author_of,
    one_sentence,
    opened_record,
    print_json,
    reachable_database,
)
from streams.cli_tables import print_rows
from streams.processes import read_run_file

app = typer.Typer(no_args_is_help=True, help="The signed audit: verify, show, new-key, reseal, retention.")
_SHOWN: Final = 20
_CONTENT_SHOWN: Final = 400
_MAC_SHOWN: Final = 16

StreamOption = Annotated[str | None, typer.Option("--stream", help=f"One of {', '.join(STREAMS)} (default: all).")]
KeysOption = Annotated[Path | None, typer.Option("--keys", help="The file of keys (default audit.key_file).")]
AnchorsOption = Annotated[Path | None, typer.Option("--anchors", help="Anchors (default audit.anchor_file).")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stays in the audit.")]
AuthorOption = Annotated[str | None, typer.Option("--author", help="Who does it (default: the user).")]


@app.command(name="verify")
def verify_audit(
    *,
    stream: StreamOption = None,
    first: Annotated[int, typer.Option("--from", min=1, help="Begin at this row, of a stream resealed there.")] = 1,
    anchors: AnchorsOption = None,
    keys: KeysOption = None,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold every row against the keys, the rows before it, the sealed heads and the anchors; exit 1 at a difference."""
    with one_sentence():
        streams = _streams(stream)
        settings = _settings(dsn, run)
        held = _keys(keys, settings)
        # Before the rows: an anchor that is written meanwhile would lie beyond what we see of them.
        found = _anchors(anchors, settings)
        with opened_record(dsn, run) as record:
            reports = [Verifier(record, held, found or ()).verify(name, first) for name in streams]
    stranger = forged(found or (), held)
    sound = stranger is None and all(report.finding is None for report in reports)
    if as_json:
        line = None if stranger is None else stranger.line
        said = [asdict(report) for report in reports]
        print_json({"sound": sound, "anchored": found is not None, "forged_anchor_line": line, "streams": said})
    else:
        _tell(reports, found, stranger)
    raise typer.Exit(0 if sound else 1)


@app.command()
def show(
    *,
    stream: Annotated[str, typer.Option("--stream", help=f"One of {', '.join(STREAMS)}.")],
    first: Annotated[int, typer.Option("--from", min=1, help="The first row.")] = 1,
    last: Annotated[int | None, typer.Option("--to", min=1, help="The last row (default: 20 rows).")] = None,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print rows of a stream as they lie there, whether they are sound or not."""
    with one_sentence():
        (name,) = _streams(stream)
        with opened_record(dsn, run) as record:
            rows = read_rows(record, name, first, first + _SHOWN - 1 if last is None else last)
        if not rows:
            raise NotInRecord(f"The audit's stream {name} has no such row.")
    listed: list[dict[str, Any]] = [
        asdict(row)
        | {"content": row.content.decode(errors="backslashreplace"), "mac": row.mac.hex()}
        | {"previous": row.previous.hex()}
        for row in rows
    ]
    if as_json:
        print_json([row | {"content": _parsed(row["content"])} for row in listed])
        return
    for row in listed:
        said = f"{row['ordinal']} {row['kind']} {row['event_id']}, key {row['key_id']}, mac {row['mac'][:_MAC_SHOWN]}"
        typer.echo(f"{said}\n    {row['content'][:_CONTENT_SHOWN]}")


@app.command(name="new-key")
def new_key(
    file: Annotated[Path, typer.Argument(help="The file of keys; made when there is none.")],
    *,
    key_id: Annotated[str | None, typer.Option("--id", help="Its id (default: the time).")] = None,
) -> None:
    """Add a random key to a file; it signs from the next start of the sinks on, and all of them verify."""
    with one_sentence():
        keys = add_key(file, key_id or time.strftime("k%Y%m%d%H%M%S", time.gmtime()))
    typer.echo(f"{file} holds {len(keys.by_id)} keys; {keys.signing} signs from the next start of the sinks on.")


@app.command(name="reseal")
def reseal_stream(
    *,
    stream: Annotated[str, typer.Option("--stream", help=f"One of {', '.join(STREAMS)}.")],
    why: ReasonOption,
    author: AuthorOption = None,
    keys: KeysOption = None,
    dsn: DsnOption = None,
    run: RunOption = None,
) -> None:
    """Go on with a stream that was changed: the sinks may add rows again, and a row says who wanted it, and why."""
    with one_sentence():
        (name,) = _streams(stream)
        held = _keys(keys, _settings(dsn, run))
        with opened_record(dsn, run) as record:
            finding = Verifier(record, held).verify(name).finding
        if finding is None:
            raise NotInRecord(f"The audit's stream {name} is sound: there is nothing to go on after.")
        with reachable_database(dsn, run) as reached, psycopg.connect(reached, autocommit=True) as connection:
            ordinal = reseal(connection, held, Reseal(name, author_of(author), why, finding))
    typer.echo(f"{name} goes on at row {ordinal}, which says why; verify what follows with --from {ordinal}.")


@app.command()
def retention(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Drop nothing: only say what is past its time.")] = False,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is kept past its retention, and drop whole days of market data that are; nothing else goes."""
    now_ns = time.time_ns()
    with one_sentence():
        with opened_record(dsn, run) as record:
            kept = past_retention(record, now_ns)
        dropped: list[str] = []
        if not dry_run:
            with reachable_database(dsn, run) as reached:
                dropped = asyncio.run(_drop_market_days(reached, now_ns))
    if as_json:
        print_json({"dropped": dropped, "past": [asdict(item) for item in kept]})
        return
    rows = [asdict(item) | {"class": item.retention_class, "oldest_day": _day(item)} for item in kept]
    print_rows(rows, ("class", "what", "days", "rows", "oldest_day"), "", Console())
    past = sum(item.rows for item in kept)
    typer.echo(f"{past} rows are past their retention." + (f" Dropped: {', '.join(dropped)}." if dropped else ""))


async def _drop_market_days(dsn: str, now_ns: int) -> list[str]:
    (market,) = [listed for listed in CLASSES if listed.name == "market"]
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        return await drop_market_days(connection, cutoff_ns(market, now_ns))


def _tell(reports: list[StreamReport], found: list[Anchor] | None, stranger: Anchor | None) -> None:
    for report in reports:
        finding = report.finding
        if finding is not None:
            typer.echo(f"{report.stream}: {finding.kind} at row {finding.ordinal}: {finding.sentence}.")
        else:
            held = f"{report.anchors} anchors met" if found is not None else "held against no anchors"
            typer.echo(f"{report.stream}: sound, {report.rows} rows, {held}, {report.seconds:.2f} s")
    if found is None:
        typer.echo("Without --anchors, a stream whose end and sealed head were both set back is not found.", err=True)
    if stranger is not None:
        typer.echo(f"Line {stranger.line} of the anchors was not sealed by any of these keys.")


def _streams(stream: str | None) -> tuple[str, ...]:
    if stream is not None and stream not in STREAMS:
        raise SettingsError(f"{stream!r} is no stream of the audit; they are {', '.join(STREAMS)}.")
    return STREAMS if stream is None else (stream,)


def _keys(given: Path | None, settings: AuditSettings) -> AuditKeys:
    path = given or settings.key_file
    if path is None:
        raise SettingsError("Which keys were the audit signed with? Name their file with --keys, or in audit.key_file.")
    return load_keys(path)


def _anchors(given: Path | None, settings: AuditSettings) -> list[Anchor] | None:
    path = given or settings.anchor_file
    return None if path is None else read_anchors(path)


def _settings(dsn: str | None, run: Path | None) -> AuditSettings:
    """Return where keys and anchors lie: as the run says of itself, else as the settings do."""
    run_file = (LATEST_RUN if run is None else run) / "run.json"
    if dsn is None and run is not None and not run_file.exists():
        raise RecordUnreachable(f"There is no run in {run}: {run_file} does not exist.")
    if dsn is None and run_file.exists():
        try:
            overrides = read_run_file(run_file)["overrides"]
        except (SettingsError, KeyError) as error:
            raise RecordUnreachable(f"{run_file} does not describe a run.") from error
        told = {name[6:]: value for name, value in overrides.items() if name.startswith("audit.")}
        if told:
            return AuditSettings(**told)
    return load_settings().audit if DEFAULT_FILE.exists() else AuditSettings()


def _parsed(content: str) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content


def _day(kept: Kept) -> str | None:
    if kept.oldest_ns is None:
        return None
    return time.strftime("%Y-%m-%d", time.gmtime(kept.oldest_ns // 10**9))
