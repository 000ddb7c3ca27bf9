"""The simulated exchange as a process of its own: ``python -m streams.exchange --config FILE --port-file FILE``.

It ends on SIGTERM or SIGINT, and when the process that started it is gone.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from infra.feeds import FeedFailed
from streams.exchange_core import ExchangeConfig, ExchangeCore, RecordDamaged
from streams.exchange_server import ExchangeServer

_PARENT_POLL_S: Final = 0.25


class ExchangeFailed(Exception):
    """The exchange could not start, in one clear sentence."""


def read_config(path: Path) -> ExchangeConfig:
    """Return the settings. Raises ExchangeFailed when the file is missing or says something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ExchangeConfig)
    except OSError as error:
        raise ExchangeFailed(f"The exchange's settings {path} cannot be read: {error.strerror}.") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise ExchangeFailed(f"The exchange's settings {path} are not usable: {error}.") from None


async def serve(config: ExchangeConfig, port_file: Path, server_type: type[ExchangeServer] = ExchangeServer) -> None:
    """Serve until told to end. Raises ExchangeFailed when the port is taken or the capture cannot be read."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        core = ExchangeCore(config, time.time_ns())
    except FeedFailed as error:
        raise ExchangeFailed(f"The exchange has no market: {error}") from None
    except (RecordDamaged, OSError) as error:
        raise ExchangeFailed(f"The exchange cannot go on from its record: {error}") from None
    server = server_type(core)
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    clock: asyncio.Task[None] | None = None
    try:
        port = await _listen(runner, config)
        _write_port(port_file, port)
        clock = asyncio.create_task(server.run())
        watch = asyncio.create_task(_until_parent_dies(stop))
        ended = asyncio.create_task(stop.wait())
        await asyncio.wait((ended, clock), return_when=asyncio.FIRST_COMPLETED)
        watch.cancel()
        if clock.done():
            await clock
    finally:
        if clock is not None:
            clock.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await clock
        server.disconnect()
        await runner.cleanup()
        core.close()


async def _listen(runner: web.AppRunner, config: ExchangeConfig) -> int:
    site = web.TCPSite(runner, config.host, config.port)
    try:
        await site.start()
    except OSError as error:
        raise ExchangeFailed(f"The exchange cannot listen on {config.host}:{config.port}: {error.strerror}.") from None
    port: int = runner.addresses[0][1]
    return port


def _write_port(path: Path, port: int) -> None:
    """Write the port in one step, so that a waiting reader never sees half of it."""
    half = path.with_name(f"{path.name}.{os.getpid()}")
    half.write_text(f"{port}\n", encoding="ascii")
    half.replace(path)


async def _until_parent_dies(stop: asyncio.Event) -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(_PARENT_POLL_S)
    stop.set()


def main(arguments: list[str] | None = None, server_type: type[ExchangeServer] = ExchangeServer) -> int:
    """Run the exchange, as the server given; return 0 at its ordered end and 2 when it could not start."""
    parser = ArgumentParser(prog="python -m streams.exchange", description="The simulated exchange.")
    parser.add_argument("--config", type=Path, required=True, help="settings, as JSON (see ExchangeConfig)")
    parser.add_argument("--port-file", type=Path, required=True, help="where to write the port once it is open")
    given = parser.parse_args(arguments)
    try:
        asyncio.run(serve(read_config(given.config), given.port_file, server_type))
    except ExchangeFailed as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
