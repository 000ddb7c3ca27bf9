"""Two faults in one run, judged as the campaign judges all of them, and what a rebalance may cost."""

import time
from pathlib import Path

import pytest
from engine_runs import holders
from fault_campaign import suffer
from fault_places import Servers
from faults import WORKERS, Fault, World, send_all_twice

from infra.servers import EmbeddedPostgres, RealKafka


def join_once(world: World) -> None:
    """A second member of each group joins; every shard is claimed once more, by whoever it is dealt to, and no more."""
    before = _epochs(world)
    for name in WORKERS:
        world.run.start(name, slot=f"{name}.second", instance_id=f"{name}.second")
    end = time.monotonic() + 30
    while any(epoch == before[name] for name, epoch in _epochs(world).items()):
        assert time.monotonic() < end, "nobody noticed the new members"
        world.wait(0.1)
    world.wait(1)
    assert _epochs(world) == {name: epoch + 1 for name, epoch in before.items()}


def _epochs(world: World) -> dict[str, int]:
    """Return stage -> epoch of those that have one shard."""
    return {name: epoch for name in WORKERS[1:] for _, epoch in holders(world.run.dsn, name)}


def join_once_and_say_all_twice(world: World) -> None:
    """A rebalance, and after it every record once more."""
    join_once(world)
    send_all_twice(world)


@pytest.mark.kafka
@pytest.mark.slow
def test_a_rebalance_and_records_that_come_twice_lose_and_double_nothing(
    real_kafka: RealKafka, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    fault = Fault(join_once_and_say_all_twice)
    verdict = suffer(fault, Servers(real_kafka, postgres_server), tmp_path, seed=1)
    assert verdict.clean, verdict
    assert verdict.recomputed > 1000, "a run that does nothing proves nothing"
