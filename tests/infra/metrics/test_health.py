"""A worker is alive as long as its loop turns, whatever is away; it is ready only while it does its work."""

from dataclasses import dataclass

from infra.metrics.health import Health


@dataclass
class Clock:
    """A clock that is set."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


def _working(clock: Clock) -> Health:
    health = Health(clock, loop_still_s=30.0)
    health.dealt, health.recovered = True, True
    health.shards_due = health.shards_held = 2
    health.database_up = health.broker_up = True
    return health


def test_a_worker_that_works_says_yes_to_everything() -> None:
    health = _working(Clock())
    assert health.alive().ok and health.ready().ok and health.started().ok
    assert health.ready().facts["standby"] is False


def test_a_loop_that_does_not_turn_is_not_alive_and_one_that_turns_again_is() -> None:
    clock = Clock()
    health = _working(clock)
    clock.now_s += 29.9
    assert health.alive().ok
    clock.now_s += 0.1
    assert health.alive().reasons == ("the event loop has not turned for 30.0 s",)
    assert not health.ready().ok
    assert health.loop_late_s == 30.0
    health.beat(0.0)
    assert health.alive().ok and health.loop_late_s == 0.0


def test_what_is_away_makes_it_unready_and_leaves_it_alive() -> None:
    health = _working(Clock())
    health.database_up = health.broker_up = False
    assert health.alive().ok
    assert health.ready().reasons == ("the database does not answer", "the broker does not answer")
    health.database_up = health.broker_up = True
    assert health.ready().ok


def test_what_was_not_asked_yet_is_not_taken_for_granted() -> None:
    health = Health(Clock())
    assert health.alive().ok
    assert len(health.ready().reasons) == 3
    assert not health.started().ok


def test_a_stuck_partition_is_not_alive() -> None:
    health = _working(Clock())
    health.stuck = "decider/0 is stuck"
    assert health.alive().reasons == ("decider/0 is stuck",)


def test_a_shard_that_is_not_held_makes_it_unready_and_none_at_all_a_standby() -> None:
    health = _working(Clock())
    health.shards_held = 1
    assert health.ready().reasons == ("1 of 2 shards are held",)
    assert health.started().ok, "what has begun once has begun"
    health.shards_held = health.shards_due = 0
    assert health.ready().ok and health.ready().facts["standby"] is True


def test_what_a_stage_waits_for_makes_it_unready() -> None:
    health = _working(Clock())
    health.missing = {"reconciled": "not reconciled with SIM"}
    assert health.ready().reasons == ("not reconciled with SIM",)
    assert health.alive().ok
