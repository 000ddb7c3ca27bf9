"""``tradermind doctor``: what stands between the platform and its start, and how each of it is mended."""

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from infra.settings import SettingsError
from streams.processes import settings_of_run

_STYLES: Final = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def doctor(
    *,
    settings: Annotated[
        Path | None, typer.Option("--settings", help="The settings file (default tradermind.toml).")
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Examine a run, by the addresses in its directory.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Check every dependency, and say how to mend what is wrong. Exit 0: all is well, 1: warnings, 2: something failed.

    All checks run at once, and each ends within seconds; nothing is written but a file in the run's directory.
    """
    from streams.cli_record import print_json
    from streams.doctor.checks import Patient, checks_of
    from streams.doctor.examination import examine, exit_code

    try:
        read = settings_of_run(None if run is None else run / "run.json", settings)
        patient = Patient(read, "", read.run.directory)
    except SettingsError as error:
        patient = Patient(None, str(error), Path())
    findings = examine(checks_of(patient))
    if as_json:
        print_json([{"check": one.check, "state": one.state, "said": one.said, "mend": one.mend} for one in findings])
        raise typer.Exit(exit_code(findings))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in findings:
        said = one.said if one.mend is None else f"{one.said}\n-> {one.mend}"
        table.add_row(f"[{_STYLES[one.state]}]{one.state}[/]", one.check, said)
    Console().print(table, highlight=False)
    raise typer.Exit(exit_code(findings))
