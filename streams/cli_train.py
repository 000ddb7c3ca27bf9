"""``tradermind train``: learn a policy on simulated regimes and write it down, signed, as an artefact."""

import importlib.util
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from infra.models.keys import development_key
from infra.people import PersonalKey, load_personal_key
from infra.settings import SettingsError, load_settings
from streams.sentences import one_sentence

if TYPE_CHECKING:
    from streams.training.learner import Progress as Tell

NEEDED: Final = ("torch", "stable_baselines3", "sb3_contrib", "gymnasium", "safetensors")


def train(
    *,
    seed: Annotated[int | None, typer.Option(min=0, help="Of every draw in learning (default: the recipe's).")] = None,
    steps: Annotated[int | None, typer.Option(min=1_000, help="Decisions to learn from.")] = None,
    device: Annotated[str, typer.Option(help="cpu, or torch's name of a GPU; only cpu gives the same bits.")] = "cpu",
    key: Annotated[Path | None, typer.Option(help="Who signs (default: the key that everybody has).")] = None,
    shipped: Annotated[bool, typer.Option("--shipped", help="Write the champion that ships with the sources.")] = False,
    settings: Annotated[Path | None, typer.Option("--settings")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Train a policy on simulated regimes only, judge it on others, and write it, signed, for `tradermind model`."""
    with one_sentence():
        refuse_without_the_extra()
        signer = development_key() if key is None else load_personal_key(key)
        _train(seed, steps, device, signer, (settings, shipped), as_json=as_json)


def refuse_without_the_extra() -> None:
    """Raise SettingsError, with what to do, where training's libraries are not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"Training needs {', '.join(missing)}: `make setup-train` installs it into .venv-train, and `make train`"
            " uses that (or install the extra `train`)."
        )


def _train(  # the flags, as they were given
    seed: int | None,
    steps: int | None,
    device: str,
    signer: PersonalKey,
    where: tuple[Path | None, bool],
    *,
    as_json: bool,
) -> None:
    from streams.training.champion import CHAMPION, make_champion, write_champion, write_shipped

    settings_file, shipped = where
    settings = load_settings(settings_file)
    learning = replace(CHAMPION.learning, device=device)
    learning = replace(learning, seed=learning.seed if seed is None else seed)
    learning = replace(learning, steps=learning.steps if steps is None else steps)
    recipe = replace(CHAMPION, learning=learning)
    began = time.perf_counter()
    with _watched(learning.steps, quiet=as_json) as tell:
        made = make_champion(recipe, settings_file, progress=tell)
    sha256 = write_shipped(made, signer) if shipped else write_champion(settings.models.directory, made, signer)
    result = {"sha256": sha256, "metrics": dict(made.spec.metrics), "seconds": round(time.perf_counter() - began, 1)}
    if as_json:
        typer.echo(json.dumps(result, indent=1))
        return
    for name, value in made.spec.metrics.items():
        typer.echo(f"{name:44} {value:12.4f}")
    typer.echo(f"{sha256} ({result['seconds']} s here)")


@contextmanager
def _watched(steps: int, *, quiet: bool) -> "Iterator[Tell]":
    """Show on a terminal how many steps are done."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("decisions learnt from", total=steps)
        yield lambda done: bar.update(task, completed=done)
