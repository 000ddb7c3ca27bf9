"""How many connections to Postgres a run's workers hold together: one for each shard, and some for each worker."""

from typing import Final

from faust.types import TP

from infra.settings import Settings
from infra.topic_specs import topic_specs
from streams.composition import compose
from streams.engine.shards import to_be_claimed
from streams.launch import WORKERS, shard_hostings

_OF_A_WORKER: Final = 5
"""Its status, its watch, its letters, its metrics and what its stage asks: at the most."""
_OF_PEOPLE: Final = 10
"""Commands, Grafana, a backup."""


def connections_wanted(settings: Settings) -> int:
    """Return how many the workers of these settings, a process each, and the people beside them want at the most.

    A partition of a public topic is a shard, too, so they grow with ``kafka.instrument_partitions``; every further
    process of a worker wants its own few more. Raises SettingsError.
    """
    run = compose(settings)
    partitions = frozenset(TP(spec.name, number) for spec in topic_specs(settings) for number in range(spec.partitions))
    shards = to_be_claimed({hosting.name: hosting for hosting in shard_hostings(run, "")}, partitions)
    return len(shards) + len(WORKERS) * _OF_A_WORKER + _OF_PEOPLE
