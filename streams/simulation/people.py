"""People who order about while the market runs: latches at every scope, the kill, cancels and closings, and again.

A command is a row in the database, as for a real person, who asks again when he has no answer. What they order is drawn
from the seed; a kill is lifted after a while, so that there is something to kill again.
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Final

import psycopg

from infra.postgres.commands import ALL, StoredCommand
from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.values import Level
from streams.simulation.database import SimulatedDatabase
from streams.simulation.faults import Dice
from streams.simulation.process import SimulatedProcess
from streams.simulation.signers import signed_reset

if TYPE_CHECKING:
    from streams.simulation.world import World

_FIRST_S: Final = (0.2, 0.5)
_PAUSE_S: Final = (0.1, 1.6)
_KILLED_S: Final = (0.1, 0.7)
_ANSWER_S: Final = (0.0005, 0.004)
_NO_ANSWER: Final = 0.2
_EXECUTION: Final = ("execution", "0")
_Scope = tuple[ScopeKind, str]


class SimulatedCommands:
    """The table of commands as one process of the control worker reads it."""

    def __init__(self, database: SimulatedDatabase, process: SimulatedProcess, dice: Dice) -> None:
        self._database = database
        self._process = process
        self._dice = dice

    async def after(self, ordinal: int) -> Sequence[StoredCommand]:
        """Return the rows above an ordinal, unless the database is away."""
        await self._process.gate()
        await asyncio.sleep(self._dice.delay_s(*_ANSWER_S))
        await self._process.gate()
        if self._database.away:
            raise psycopg.OperationalError("the simulated database is away")
        rows = list(self._database.commands.values())
        return [StoredCommand(number, row) for number, row in enumerate(rows[ordinal:], ordinal + 1)]

    async def close(self) -> None:
        """Do nothing: there is no connection."""


class SimulatedClaims:
    """The claim of execution's shard, as one process reads it."""

    def __init__(self, database: SimulatedDatabase, process: SimulatedProcess, dice: Dice) -> None:
        self._database = database
        self._process = process
        self._dice = dice

    async def newest_epoch(self) -> int:
        """Return the epoch in the shard's row, unless the database is away."""
        await self._process.gate()
        await asyncio.sleep(self._dice.delay_s(*_ANSWER_S))
        await self._process.gate()
        if self._database.away:
            raise psycopg.OperationalError("the simulated database is away")
        rows = self._database.shards.get(_EXECUTION)
        return 0 if rows is None else rows.epoch

    async def close(self) -> None:
        """Do nothing: there is no connection."""


class People:
    """Everybody who may order something in a run."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._random = Random(f"people/{world.plan.seed}")
        self._numbers = count(1)
        self._orders: dict[str, tuple[int, Callable[[], None]]] = {
            "kill": (3, self._kill),
            "latch": (3, self._latch),
            "cancel": (3, self._cancel),
            "flatten": (2, self._flatten),
        }

    async def order_about(self) -> None:
        """Order something now and then, for ever."""
        kinds = list(self._orders)
        pause_s = _FIRST_S
        while True:
            await asyncio.sleep(self._random.uniform(*pause_s))
            pause_s = _PAUSE_S
            kind = self._random.choices(kinds, [weight for weight, _ in self._orders.values()])[0]
            self._world.dice.injected[f"ordered_{kind}"] += 1
            self._orders[kind][1]()

    def _kill(self) -> None:
        everywhere = (ScopeKind.GLOBAL, ALL)
        self._set(everywhere, Level.HALTED)
        self._world.loop.call_later(self._random.uniform(*_KILLED_S), self._set, everywhere, Level.ACTIVE)

    def _latch(self) -> None:
        scope = self._scope()
        self._set(scope, self._random.choice((Level.REDUCING, Level.HALTED)))
        self._world.loop.call_later(self._random.uniform(*_KILLED_S), self._set, scope, Level.ACTIVE)

    def _set(self, scope: _Scope, level: Level) -> None:
        if level is not Level.ACTIVE:
            self._give(ControlAction.SET_LEVEL, scope, level)
            return
        name = f"command-{next(self._numbers)}"
        seen = len(self._world.database.commands)
        self._order(signed_reset(name, scope, level, seen, self._world.loop.now_ns()))

    def _cancel(self) -> None:
        known = sorted(self._world.venue.core.state.orders)
        target = self._random.choice([*known[-4:], ALL])
        self._give(ControlAction.CANCEL, (ScopeKind.GLOBAL, target), None)

    def _flatten(self) -> None:
        self._give(ControlAction.FLATTEN, self._scope(), None)

    def _scope(self) -> _Scope:
        run = self._world.plan.run
        return self._random.choice(
            [
                (ScopeKind.GLOBAL, ALL),
                *((ScopeKind.ACCOUNT, name) for name in sorted(run.settings.accounts)),
                *((ScopeKind.STRATEGY, name) for name in sorted(run.settings.strategies)),
                *((ScopeKind.INSTRUMENT, name) for name in sorted(run.fed)),
            ]
        )

    def _give(self, action: ControlAction, scope: _Scope, level: Level | None) -> None:
        now_ns = self._world.loop.now_ns()
        name = f"command-{next(self._numbers)}"
        command = ControlCommand(
            key=name,
            event_time_ns=now_ns,
            available_at_ns=now_ns,
            event_id=name,
            command_id=name,
            author="somebody",
            reason="a simulated one",
            action=action,
            scope=scope[0],
            target=scope[1],
            level=level,
        )
        self._order(command)

    def _order(self, command: ControlCommand) -> None:
        self._world.database.order(command)
        if self._random.random() < _NO_ANSWER:
            self._world.dice.injected["command_given_again"] += 1
            self._world.loop.call_later(self._random.uniform(*_KILLED_S), self._world.database.order, command)
