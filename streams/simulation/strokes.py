"""What is done to processes and servers while the market runs: killed, stopped, ended, dealt out anew, cut off."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from streams.simulation.world import World

_STOPPED_S: Final = (0.05, 2.5)
_AWAY_S: Final = (0.05, 2.0)
_NOTICED_S: Final = 0.4


async def strike(world: "World") -> None:
    """Strike now and then, for ever."""
    dice = world.dice
    kinds = sorted(STROKES)
    while True:
        await asyncio.sleep(dice.delay_s(0.0, 2 * dice.odds.stroke_every_s))
        kind = dice.random.choices(kinds, [STROKES[name][0] for name in kinds])[0]
        dice.injected[kind] += 1
        STROKES[kind][1](world)


def _any(world: "World") -> str:
    return world.dice.random.choice(sorted(world.members))


def _kill(world: "World") -> None:
    world.kill(_any(world))


def _kill_all(world: "World") -> None:
    for name in sorted(world.members):
        world.kill(name)


def _terminate(world: "World") -> None:
    world.terminate(_any(world))


def _rebalance(world: "World") -> None:
    world.dice.random.choice(list(world.groups.values())).rebalance()


def _stop(world: "World") -> None:
    """SIGSTOP, perhaps for longer than the group waits, and SIGCONT."""
    name = _any(world)
    member = world.members[name]
    member.process.stop()
    lasts_s = world.dice.delay_s(*_STOPPED_S)
    world.loop.call_later(lasts_s, member.process.go_on)
    for group in world.groups.values():
        if member in group.members and lasts_s > _NOTICED_S:
            world.loop.call_later(_NOTICED_S, group.rebalance)


def _cut_database(world: "World") -> None:
    def back() -> None:
        world.database.away = False

    world.database.away = True
    world.loop.call_later(world.dice.delay_s(*_AWAY_S), back)


STROKES: Final[dict[str, tuple[int, Callable[["World"], None]]]] = {
    "killed": (6, _kill),
    "killed_all": (1, _kill_all),
    "terminated": (2, _terminate),
    "rebalanced": (4, _rebalance),
    "stopped": (6, _stop),
    "database_away": (2, _cut_database),
}
