"""Trainings that are none, as processes: each behaves in the way that its folder's name says."""

import os
import signal
import sys
import time
from pathlib import Path

from streams.training.job import TrainingOutcome, write_outcome


def main() -> None:
    """Do what the folder is called."""
    folder = Path(sys.argv[1])
    (folder / "pid").write_text(str(os.getpid()))
    if folder.name == "done":
        write_outcome(folder, TrainingOutcome(model="m", sha256="s", transitions=3, metrics={"loss": 1.5}))
    elif folder.name == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    elif folder.name == "garbled":
        (folder / "outcome.json").write_text("{")
    elif folder.name == "broken":
        sys.stderr.write("something went wrong\n")
        sys.exit(3)


if __name__ == "__main__":
    main()
