"""Limits for people: what is in force, how it came to be, and a change of it.

Whatever only makes stricter is one person's to do; whatever loosens waits for two signatures (``tradermind change``).
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console

from agents.limits.book import lapsed
from infra.postgres.changes import recent_outcomes
from infra.postgres.queries import NotInRecord, json_ready
from schemas.changes import Change, OutcomeKind
from schemas.control import ControlAction
from schemas.values import NS_PER_S
from streams.cli_change import ApplyWaitOption, say_outcome, say_proposed
from streams.cli_commands import AccountOption, AuthorOption, InstrumentOption, ReasonOption, StrategyOption, scope_of
from streams.cli_record import (
    DsnOption,
    JsonOption,
    RunOption,
    author_of,
    database_of,
    one_sentence,
    print_json,
    reachable_database,
)
from streams.cli_tables import print_rows
from streams.composition import compose
from streams.proposals import known_change, later, nonce, place_of, propose
from streams.standing import differences, now_ns, settings_for, standing_of

app = typer.Typer(no_args_is_help=True, help="The hard limits: show, history, propose.")
_LISTED: Final = 20

UntilOption = Annotated[str | None, typer.Option("--until", help="An override: it lapses then, as 30m or a time.")]
ValidOption = Annotated[str, typer.Option("--valid-for", help="So long it can be applied, as 1h.")]


@app.command()
def show(*, dsn: DsnOption = None, run: RunOption = None, as_json: JsonOption = False) -> None:
    """Print the limits in force by scope, the overrides, and where the settings say something else."""
    with one_sentence(), reachable_database(dsn, run) as database:
        settings = settings_for(run)
        standing = standing_of(database)
        at_ns = now_ns(settings, standing)
        book = lapsed(standing.book, at_ns)
        different = differences(compose(settings), standing, at_ns)
    overrides: list[dict[str, Any]] = [msgspec.to_builtins(item) for item in book.overrides]
    if as_json:
        told = {"version": book.version, "owner": book.owner, "reason": book.reason, "sets": book.sets}
        listed = [item._asdict() for item in different]
        print_json(told | {"overrides": overrides, "differs_from_settings": listed})
        return
    typer.echo(f"limits {book.version}, by {book.owner}: {book.reason}")
    rows = [
        {"scope": scope.replace("|", " "), "limit": name, "value": text}
        for scope, values in sorted(book.sets.items())
        for name, text in sorted(values.items())
    ]
    rows += [
        {"scope": item["scope"].replace("|", " "), "limit": name, "value": text, "until": _moment(item["until_ns"])}
        for item in overrides
        for name, text in item["values"].items()
    ]
    columns = ("scope", "limit", "value", *(("until",) if overrides else ()))
    print_rows([{"until": "", **row} for row in rows], columns, "There are no limits.", Console())
    for item in different:
        typer.echo(
            f"{item.limit} is {item.in_force or 'none'}; the settings, which change nothing, say {item.settings!r}"
        )


@app.command()
def history(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")] = _LISTED,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what became of changes of limits and levels, newest first: applied, refused with its reason, lapsed."""
    with one_sentence(), reachable_database(dsn, run) as database:
        found = recent_outcomes(database, limit, without=OutcomeKind.IN_FORCE)
    rows = [json_ready(row) for row in found]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["what"] = row["level"] or " ".join(f"{name}={text}" for name, text in row["values"].items())
        row["by"] = " ".join((row["author"], *(f"+{name}" for name in row["approved_by"])))
    columns = ("time", "outcome", "refusal", "scope", "target", "what", "version", "by", "reason")
    print_rows(rows, columns, "Nothing was changed yet.", Console())


@app.command(name="propose")
def propose_limits(
    values: Annotated[list[str], typer.Argument(help="LIMIT=VALUE ...; LIMIT= takes it away.")],
    *,
    reason: ReasonOption,
    account: AccountOption = None,
    strategy: StrategyOption = None,
    instrument: InstrumentOption = None,
    until: UntilOption = None,
    valid_for: ValidOption = "1h",
    author: AuthorOption = None,
    wait: ApplyWaitOption = 5.0,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose other limits, everywhere or at one scope. What only makes stricter is applied at once."""
    with one_sentence():
        scope, target = scope_of(account, strategy, instrument)
        place = place_of(database_of(dsn, run), settings_for(run))
        change = Change(
            action=ControlAction.SET_LIMITS,
            scope=scope,
            target=target,
            base=lapsed(place.standing.book, place.now_ns).version,
            owner=author_of(author),
            reason=reason,
            proposed_at_ns=place.now_ns,
            expires_at_ns=later(valid_for, place.now_ns),
            nonce=nonce(),
            values=_values(values),
            until_ns=None if until is None else later(until, place.now_ns),
        )
        _refuse_empty(change)
        name, loosens = propose(place, change)
        if loosens:
            say_proposed(name, loosens, as_json=as_json)
            return
        say_outcome(place.dsn, known_change(place.dsn, name), wait, as_json=as_json)


def _moment(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // NS_PER_S, UTC).isoformat()


def _values(given: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for item in given:
        name, is_set, text = item.partition("=")
        if not name or not is_set or name in values:
            raise NotInRecord(f"{item!r} is not LIMIT=VALUE, or is there twice.")
        values[name.strip()] = text.strip()
    return values


def _refuse_empty(change: Change) -> None:
    if not change.reason.strip() or not change.owner.strip():
        raise NotInRecord("A change needs an owner and a reason.")
