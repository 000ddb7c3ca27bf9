"""A training as a child process: with a limit of time, and never longer than whoever started it.

The loop of the worker goes on meanwhile. It looks at the child now and then, and kills it when its time is up or when
nobody waits for it any more; the kernel kills it with the worker.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from infra.servers.process import ChildProcess, Launch, ServerFailed, start_process
from schemas.training import TrainingFailure
from streams.training.job import LOG_NAME, TrainingOutcome, read_outcome

_LOOK_S: Final = 0.1
MODULE: Final = "streams.training.online"


async def train_in_child(folder: Path, limit_s: float, module: str = MODULE) -> TrainingOutcome:
    """Do the training that lies in a folder, and return what came of it, whatever becomes of the process."""
    command = (sys.executable, "-m", module, str(folder))
    environment = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    launch = Launch("The training", command, folder / LOG_NAME, environment)
    try:
        child = await asyncio.to_thread(start_process, launch)
    except ServerFailed as failed:
        return TrainingOutcome(failure=TrainingFailure.BROKEN, detail=str(failed))
    try:
        in_time = await _ended(child, time.monotonic() + limit_s)
    finally:
        # It must not outlive the wait for it: a cancelled wait is a worker that ends, or has lost its shard.
        await asyncio.shield(asyncio.to_thread(child.kill))
    if not in_time:
        detail = f"The training was not done after {limit_s:g} s and was ended."
        return TrainingOutcome(failure=TrainingFailure.TIMED_OUT, detail=detail)
    return _outcome(folder, child)


async def _ended(child: ChildProcess, end: float) -> bool:
    while child.alive():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(_LOOK_S)
    return True


def _outcome(folder: Path, child: ChildProcess) -> TrainingOutcome:
    try:
        outcome = read_outcome(folder)
    except (msgspec.DecodeError, OSError) as error:
        return TrainingOutcome(failure=TrainingFailure.BROKEN, detail=f"The outcome of a training: {error}.")
    if outcome is not None:
        return outcome
    detail = f"The training ended with code {child.exit_code()}: {child.last_lines()}"
    return TrainingOutcome(failure=TrainingFailure.BROKEN, detail=detail)
