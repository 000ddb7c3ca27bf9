"""Quix Streams doing the same work, in an environment of its own: its client's version is not ours.

``python benchmarks/stream_quix.py JSON``; ``make bench-stream`` makes the environment from requirements-quix.lock.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from quixstreams import Application  # type: ignore[import-not-found]  # lives in its own environment

from benchmarks.tick_work import TickWork


def main(bootstrap: str, group: str, source: str, target: str) -> None:
    """Run a dataframe of one function; at least once, offsets committed every five seconds by default."""
    application = Application(
        broker_address=bootstrap, consumer_group=group, auto_offset_reset="earliest", auto_create_topics=False
    )
    work = TickWork()
    trades = application.topic(source, value_deserializer="bytes", key_deserializer="bytes")
    votes = application.topic(target, value_serializer="bytes", key_serializer="bytes")
    frame = application.dataframe(trades).apply(work.take).filter(lambda vote: vote is not None)
    frame.to_topic(votes)
    application.run()


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
