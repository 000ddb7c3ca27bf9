"""How a worker ends when it must not go on: one sentence, an exit code, and nothing flushed or acknowledged later."""

import asyncio
import logging
import os
import sys
from typing import Final

from infra.kafka import BrokerUnreachable
from infra.postgres.checkpoints import ClaimRefused, DatabaseGone, ShardLost
from streams.engine.ports import WorkerFailed

LOG: Final = logging.getLogger("tradermind.worker")


def as_failure(error: Exception) -> WorkerFailed:
    """Return what a worker ends with after an error."""
    if isinstance(error, WorkerFailed):
        return error
    if isinstance(error, ShardLost | DatabaseGone | BrokerUnreachable):
        return WorkerFailed(str(error))
    if isinstance(error, ClaimRefused):
        return WorkerFailed(str(error), 2)
    LOG.error("a stage or its surroundings broke", exc_info=error)
    return WorkerFailed(f"An invariant is broken ({type(error).__name__}: {error}); nothing was acknowledged past it.")


def end_process(failed: "asyncio.Future[WorkerFailed]") -> None:
    """End this process with a failure's sentence and exit code."""
    failure = failed.result()
    try:
        sys.stderr.write(f"{failure}\n")
        sys.stderr.flush()
    finally:
        # Nothing is flushed and nothing acknowledged: what was not checkpointed happens again. The disk that takes
        # what we say may be full, and whoever cannot say why it ends must end all the same.
        os._exit(failure.exit_code)
