"""``tradermind model serve``: the inference service, on this machine only unless it is told otherwise."""

import asyncio
import contextlib
import logging
import signal
from typing import Annotated

import typer
from aiohttp import web

from infra.models.store import store_of
from infra.postgres.queries import RecordUnreachable
from infra.settings import SettingsError
from streams.cli_record import DsnOption, RunOption, database_of, one_sentence
from streams.inference import InferenceServer
from streams.model_alarm import alarm_of
from streams.model_catalogue import known_standings, named
from streams.standing import settings_for


def serve(
    model: Annotated[
        str | None, typer.Argument(help="A model's name or how its sha256 begins (default: the champion).")
    ] = None,
    *,
    host: Annotated[str, typer.Option(help="Where to listen; others can reach any but a loopback one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: one that is free.")] = 8707,
    dsn: DsnOption = None,
    run: RunOption = None,
) -> None:
    """Answer POST /predict as the decider would; also GET /healthz, /model and /metrics. Ctrl-C ends it."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    with one_sentence():
        settings = settings_for(run)
        known = known_standings(dsn, run)
        store = store_of(settings, alarm_of(known_dsn(dsn, run), "model serve"))
        if model is None:
            sha256 = known.champion or store.champion(settings.models.champion)
        else:
            sha256 = named(store_of(settings, lambda *_: None), known, model).sha256
        asyncio.run(_serve(InferenceServer(store.read(sha256)), host, port))


def known_dsn(dsn: str | None, run: RunOption) -> str | None:
    """Return the database that was named, or the newest run's; None where there is none."""
    with contextlib.suppress(RecordUnreachable, SettingsError):
        return database_of(dsn, run)
    return None


async def _serve(server: InferenceServer, host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise SettingsError(f"The service cannot listen on {host}:{port}: {error.strerror}.") from error
        at = runner.addresses[0]
        typer.echo(f"{server.told} on http://{at[0]}:{at[1]}")
        await stop.wait()
    finally:
        await runner.cleanup()
