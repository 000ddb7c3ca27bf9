"""Where ``tradermind`` begins: before the second that the imports take, so that Ctrl-C ends that quietly, too."""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Import the command line and run it."""
    signal.signal(signal.SIGINT, _end)
    from streams.cli import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _end(number: int, frame: FrameType | None) -> None:
    """Nothing was begun, so nothing is to be ended; a run that is ended by its user has done what it was asked."""
    del number, frame
    os._exit(0 if sys.argv[1:2] in (["demo"], ["up"]) else 130)


if __name__ == "__main__":
    main()
