"""Start-up in a thread that Ctrl-C does not wait for: some servers take many seconds to come up."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from infra.servers.process import end_descendants

_END_S: Final = 4.0
_ResultT = TypeVar("_ResultT")


class StartInterrupted(Exception):
    """The user ended the run while it was starting; what had been started is gone."""


async def unless_stopped(stop: asyncio.Event, function: Callable[..., _ResultT], *arguments: Any) -> _ResultT:
    """Return what ``function`` returns. Raises StartInterrupted when ``stop`` comes first, and what it raises.

    It runs in a daemon thread, not in the loop's executor, which would hold up the end of the process: without the
    children it waits for it fails, and nobody asks for its answer any more.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_ResultT] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)

    def work() -> None:
        result, failure = None, None
        try:
            result = function(*arguments)
        except BaseException as error:
            failure = error
        # The loop may be closed by then: the run has ended without this answer.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=work, daemon=True, name=f"start {function.__name__}").start()
    stopped = asyncio.ensure_future(stop.wait())
    either: set[asyncio.Future[Any]] = {answer, stopped}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if stop.is_set():
        answer.cancel()
        end_descendants(_END_S)
        raise StartInterrupted
    return answer.result()
