"""What every server that runs as a child can be told, whichever it is."""

import signal
from typing import ClassVar

from infra.servers.process import ChildProcess


class ChildServer:
    """A server's handle, of which ``process`` is the one part that all have."""

    __slots__ = ()
    process: ChildProcess
    STOP_S: ClassVar[float] = 10.0
    """How long it may take to end in order, in seconds."""
    STOP_SIGNAL: ClassVar[int] = signal.SIGTERM

    def stop(self) -> None:
        """Shut it down in order, and kill it when it takes too long."""
        self.process.terminate(self.STOP_S, number=self.STOP_SIGNAL)

    def kill(self) -> None:
        """``kill -9`` every process of it, in the middle of whatever it does, and return when all are gone."""
        self.process.kill()

    def pause(self) -> None:
        """Let it take connections and answer none."""
        self.process.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on answering."""
        self.process.send(signal.SIGCONT)
