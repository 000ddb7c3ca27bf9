"""``tradermind model``: what models there are, whether they are what they say, and which of them decides.

A model is released by a command: a row with its author, which the control worker examines from its own place before
anything follows. What the gate does not pass, two people may still let through, as they raise a limit.

Exit codes: 0 done, 1 refused or not there, 2 an artefact is refused, wrong settings, or nobody has answered.
"""

import contextlib
import enum
import json
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console

from infra.artefacts import Artefact, ArtefactRefused, read_directory
from infra.models.store import ModelStore, store_of
from infra.postgres.model_refusals import recent_refusals
from infra.postgres.queries import NotInRecord, json_ready, open_record
from infra.postgres.queries_models import releases
from infra.settings import Settings
from schemas.feedback import ReleaseStage
from streams.cli_commands import AuthorOption, ReasonOption, WaitOption
from streams.cli_model_serve import known_dsn, serve
from streams.cli_record import (
    DsnOption,
    JsonOption,
    RunOption,
    author_of,
    database_of,
    one_sentence,
    opened_record,
    print_json,
)
from streams.cli_tables import print_rows
from streams.model_alarm import alarm_of
from streams.model_catalogue import (
    in_force,
    known_standings,
    listed,
    named,
    record_if_any,
)
from streams.model_orders import Release, order_release, propose_override
from streams.model_standing import (
    GATED,
    figures,
    gate,
    gate_terms,
    may_step,
    no_place_for,
    told,
    with_champion_of_settings,
)
from streams.policies import of_our_schema
from streams.standing import settings_for

app = typer.Typer(no_args_is_help=True, help="Models: ls, show, verify, promote, rollback, refused, serve.")
app.command()(serve)
_SHORT: Final = 12

ModelArgument = Annotated[str, typer.Argument(help="A model's name, or how its sha256 begins.")]


class Target(enum.StrEnum):
    """Where a model may be promoted to."""

    SHADOW = "shadow"
    CANARY = "canary"
    CHAMPION = "champion"


@app.command(name="ls")
def list_models(*, dsn: DsnOption = None, run: RunOption = None, as_json: JsonOption = False) -> None:
    """Print every model in the store or in the record: its stage, who put it there, and whether it can be loaded."""
    with one_sentence():
        settings = settings_for(run)
        store = _silent(settings)
        known = with_champion_of_settings(known_standings(dsn, run), store, settings)
        rows = [item.row() for item in listed(store, known)]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["sha256"] = row["sha256"][:_SHORT]
    columns = "model sha256 stage in_force markets artefact signed_by reason author"
    print_rows(rows, columns.split(), "There is no model yet: `tradermind train` makes one.", Console())


@app.command()
def show(model: ModelArgument, *, dsn: DsnOption = None, run: RunOption = None, as_json: JsonOption = False) -> None:
    """Print a model's spec, its metrics, its way through the stages, and how it stands with the gate."""
    with one_sentence():
        settings = settings_for(run)
        found = named(_silent(settings), known_standings(dsn, run), model)
        history, verdict = _history(dsn, run, settings, found.sha256)
    spec = None if found.artefact is None else msgspec.to_builtins(found.artefact.spec)
    content = {**found.row(), "spec": spec, "releases": history, "gate": verdict}
    if as_json:
        print_json(content)
        return
    typer.echo(f"{found.name} {found.sha256}")
    typer.echo(str(found.refused) if found.refused is not None else f"good, signed by {content['signed_by']}")
    console = Console()
    if found.artefact is not None:
        typer.echo(_reach(found.artefact, anywhere=settings.models.act_outside_training))
        metrics = [{"metric": key, "value": value} for key, value in found.artefact.spec.metrics.items()]
        print_rows(metrics, ("metric", "value"), "It has no metrics.", console)
    print_rows(history, ("time", "release_stage", "author", "reason"), "No release has named it.", console)
    typer.echo(f"gate: {verdict['told']}" if verdict is not None else "gate: it is neither in shadow nor on trial")
    if spec is not None:
        typer.echo(json.dumps({key: value for key, value in spec.items() if key != "metrics"}, indent=1))


@app.command()
def verify(
    model: Annotated[
        str | None, typer.Argument(help="A model's name, how its sha256 begins, or a directory (default: all).")
    ] = None,
    *,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check artefacts to the byte: sizes, digests, signature, tensors. Exit code 2 if one is refused, with an alert."""
    with one_sentence():
        settings = settings_for(run)
        store = store_of(settings, alarm_of(known_dsn(dsn, run), "model verify"))
        if model is not None and Path(model).is_dir():
            rows = [_verified_directory(store, Path(model))]
        else:
            meant = None if model is None else named(_silent(settings), known_standings(dsn, run), model)
            addresses = store.addresses() if meant is None else (meant.sha256,)
            rows = [_verified(store, sha256) for sha256 in addresses]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            typer.echo(f"{row['sha256']} {row['verdict']}")
    raise typer.Exit(2 if any(row["reason"] is not None for row in rows) else 0)


@app.command()
def promote(
    model: ModelArgument,
    *,
    to: Annotated[Target, typer.Option("--to", help="shadow, canary or champion.", case_sensitive=False)],
    reason: ReasonOption,
    override: Annotated[bool, typer.Option("--override", help="Propose it past the gate, to two people.")] = False,
    author: AuthorOption = None,
    wait: WaitOption = 5.0,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a model go one step further: shadow, canary, champion. The last two only when it passes the gate."""
    stage = ReleaseStage[to.name]
    with one_sentence():
        settings, database = settings_for(run), database_of(dsn, run)
        store = store_of(settings, alarm_of(database, "model promote"))
        known = with_champion_of_settings(known_standings(database, None), _silent(settings), settings)
        found = named(_silent(settings), known, model)
        of_our_schema(store, found.sha256)
        before = known.stage(found.sha256)
        if not may_step(before, stage):
            raise NotInRecord(f"{found.name} is in {before or 'no stage'}: it cannot go to {stage} from there.")
        if idle := no_place_for(settings, stage):
            raise NotInRecord(f"{idle[0].upper()}{idle[1:]}.")
        release = Release(found.name, found.sha256, stage, author_of(author), reason)
        passes, said = _judged(database, settings, release)
        if not passes and not override:
            raise NotInRecord(f"Refused: GATE_NOT_PASSED, {said}.")
        if not passes:
            propose_override(database, settings, release, before, as_json=as_json)
            return
        order_release(database, release, wait, as_json=as_json, said=said)


@app.command()
def rollback(
    model: Annotated[
        str | None, typer.Argument(help="A model's name or sha256 (default: the canary, else the champion).")
    ] = None,
    *,
    reason: ReasonOption,
    author: AuthorOption = None,
    wait: WaitOption = 5.0,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a model out of force: a canary is flattened, and the champion before comes back, or the fallback."""
    with one_sentence():
        settings, database = settings_for(run), database_of(dsn, run)
        store = _silent(settings)
        known = known_standings(database, None)
        found = in_force(store, known, model, settings.models.champion)
        if known.stage(found.sha256) is ReleaseStage.RETIRED:
            raise NotInRecord(f"{found.name} is out of force already.")
        release = Release(found.name, found.sha256, ReleaseStage.RETIRED, author_of(author), reason)
        order_release(database, release, wait, as_json=as_json)


@app.command()
def refused(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many, the newest.")] = 20,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the artefacts that were refused, by whom and why: a fault or an attack."""
    with one_sentence(), opened_record(dsn, run) as record:
        rows = [json_ready(row) for row in recent_refusals(record, limit)]
    if as_json:
        print_json(rows)
        return
    print_rows(rows, ("time", "author", "sha256", "reason", "sentence"), "No artefact was refused.", Console())


def _reach(artefact: Artefact, *, anywhere: bool) -> str:
    """Return where a model acts once it is in force."""
    trained = ", ".join(artefact.spec.markets) or "no market that its spec names"
    elsewhere = "it acts elsewhere, too (models.act_outside_training)" if anywhere else "elsewhere the fallback acts"
    return f"trained on {trained}; {elsewhere}"


def _judged(dsn: str, settings: Settings, release: Release) -> tuple[bool, str]:
    """Return whether the gate passes a release that it guards, and its figures."""
    if release.stage not in GATED:
        return True, ""
    with contextlib.closing(open_record(dsn)) as record:
        verdict = gate(record, settings, release.sha256)
    said = told(verdict, gate_terms(settings.models))
    return verdict is not None and verdict.passes, said


def _history(
    dsn: str | None, run: Path | None, settings: Settings, sha256: str
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    with record_if_any(dsn, run) as record:
        if record is None:
            return [], None
        rows = [json_ready(row) for row in releases(record) if row["sha256"] == sha256]
        verdict = gate(record, settings, sha256)
    if verdict is None:
        return rows, None
    terms = gate_terms(settings.models)
    return rows, {
        **verdict._asdict(),
        "lower": verdict.lower if verdict.decisions >= terms.decisions_min else None,
        "passes": verdict.passes,
        "told": f"{'passed' if verdict.passes else ', '.join(verdict.refusals)}: {figures(verdict, terms)}",
    }


def _silent(settings: Settings) -> ModelStore:
    """Return a store whose refusals are shown by whoever looks, and not told aloud each time."""
    return store_of(settings, lambda *_: None)


def _verified(store: ModelStore, sha256: str) -> dict[str, Any]:
    try:
        artefact = store.read(sha256)
    except ArtefactRefused as found:
        return {"sha256": sha256, "reason": found.reason.value, "verdict": found.sentence}
    return {"sha256": sha256, "reason": None, "verdict": f"good: {artefact.name}, signed by {artefact.key}"}


def _verified_directory(store: ModelStore, directory: Path) -> dict[str, Any]:
    try:
        artefact = read_directory(directory, store.keys)
    except ArtefactRefused as found:
        store.alarm(directory.name, found)
        return {"sha256": directory.name, "reason": found.reason.value, "verdict": found.sentence}
    return {"sha256": artefact.sha256, "reason": None, "verdict": f"good: {artefact.name}, signed by {artefact.key}"}
