"""A consumer group: two members of a worker, and a coordinator that deals the partitions out to whoever is there.

A member that does not answer is left behind when the others go on, and finds out later: until then it believes that
it holds its shards. Partitions of equal number stay together, as with the engine's assignor.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from faust.types import TP

from streams.engine.ports import StageHosting
from streams.simulation.faults import Dice
from streams.simulation.member import Member
from streams.simulation.plan import PARTITIONS

_REBALANCE_BOUND_S: Final = 0.4
_SETTLE_S: Final = (0.005, 0.05)


class Group:
    """The members of one worker, and what they hold."""

    def __init__(self, name: str, hostings: Sequence[StageHosting], dice: Dice) -> None:
        self.name = name
        self.members: list[Member] = []
        self._topics = tuple(dict.fromkeys(topic for hosting in hostings for topic in hosting.topics))
        self._dice = dice
        self._changed = asyncio.Event()

    def join(self, member: Member) -> None:
        """Take a member in at the next rebalance."""
        if member not in self.members:
            self.members.append(member)
        self._changed.set()

    def leave(self, member: Member) -> None:
        """Leave a member out from now on."""
        if member in self.members:
            self.members.remove(member)
            self._changed.set()

    def rebalance(self) -> None:
        """Deal everything out anew."""
        self._changed.set()

    async def coordinate(self) -> None:
        """Deal out, whenever anything has changed, for ever."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(self._dice.delay_s(*_SETTLE_S))
            self._changed.clear()
            await self._deal()

    async def _deal(self) -> None:
        members = [member for member in self.members if not member.process.dead]
        await self._revoke(members)
        members = [member for member in members if member in self.members and not member.process.dead]
        if not members:
            return
        dealt: dict[int, list[TP]] = {index: [] for index in range(len(members))}
        for number in range(PARTITIONS):
            taker = self._dice.random.randrange(len(members))
            dealt[taker] += [TP(t.name, number) for t in self._topics if number < t.partitions(PARTITIONS)]
        for index, member in enumerate(members):
            member.process.spawn(member.assign(frozenset(dealt[index])))

    async def _revoke(self, members: Sequence[Member]) -> None:
        """Wait until everybody has let go; whoever has not in time is left behind, and comes back when he notices."""
        asked = [(member, member.process.spawn(member.revoke())) for member in members]
        if asked:
            await asyncio.wait([task for _, task in asked], timeout=_REBALANCE_BOUND_S)
        for member, task in asked:
            if not task.done():
                self._dice.injected["left_behind"] += 1
                self.members.remove(member)
                task.add_done_callback(partial(self._come_back, member))

    def _come_back(self, member: Member, _: "asyncio.Task[None]") -> None:
        if not member.process.dead:
            self.join(member)
