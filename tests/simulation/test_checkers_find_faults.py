"""The checkers of the simulation, checked: each part of the engine's safety, taken away, is found within a few seeds.

A faulty part stands in the place of a simulated one; the engine itself is not touched.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest

from agents.stage import ShardState, Stage
from infra.postgres.commands import StoredCommand
from infra.postgres.patient_store import Checkpoint, Commit, RunFacts
from schemas.control import ControlCommand
from schemas.event import Event
from schemas.orders import SubmitRequested
from schemas.values import Level
from streams.composition import Run
from streams.engine.dedupe import SeenPositions
from streams.engine.ports import Outgoing, StageHosting
from streams.engine.producing import Acknowledgement
from streams.engine.shard import Progress
from streams.simulation.crash_points import SHORT_EVENTS, SHORT_SEED, crash_points, undisturbed
from streams.simulation.database import SimulatedStore
from streams.simulation.log import SimulatedProducer, Written
from streams.simulation.parts import Parts, hosting_of
from streams.simulation.people import SimulatedCommands
from streams.simulation.run import Outcome, simulate
from streams.simulation.venue import VenueClient

SEEDS_AT_MOST = 12


class ForgetsWhatItHasSeen(SimulatedStore):
    """A checkpoint without the numbers that were taken: after a take-over, duplicates count again."""

    async def claim_once(self, facts: RunFacts) -> Checkpoint:
        checkpoint = await super().claim_once(facts)
        if not checkpoint.progress:
            return checkpoint
        progress = msgspec.msgpack.decode(checkpoint.progress, type=Progress)
        progress.seen = SeenPositions()
        return replace(checkpoint, progress=msgspec.msgpack.encode(progress))


class DropsAnOutboxRow(SimulatedStore):
    """Whoever takes over does not send the last batch that was committed and not sent."""

    async def claim_once(self, facts: RunFacts) -> Checkpoint:
        checkpoint = await super().claim_once(facts)
        return replace(checkpoint, unsent=checkpoint.unsent[:-1])


class AnswersBeforeItHasWritten(SimulatedStore):
    """Says that a batch is committed a while before it is."""

    async def write_once(self, commit: Commit, facts: RunFacts) -> None:
        async def later() -> None:
            await asyncio.sleep(0.05)
            if not self._process.dead:
                self._database.write(self._name, self._epoch, commit, facts)

        await self._process.gate()
        asyncio.get_running_loop().create_task(later())


class LetsEverybodyWrite(SimulatedStore):
    """Knows no epochs: whoever lost a shard goes on writing it."""

    async def write_once(self, commit: Commit, facts: RunFacts) -> None:
        self._epoch = self._database.shards[self._name.stage, self._name.shard].epoch
        await super().write_once(commit, facts)


class TakesALostAnswerForALostCommit(SimulatedStore):
    """Writes again what had arrived."""

    async def is_written(self, batch: int) -> bool | None:
        return False if await super().is_written(batch) is not None else None


class TakesALostCommitForALostAnswer(SimulatedStore):
    """Does not write again what never arrived."""

    async def is_written(self, batch: int) -> bool | None:
        return True if await super().is_written(batch) is not None else None


class ForgetsAKey(SimulatedStore):
    """Gives back a shard without one key of its state."""

    async def claim_once(self, facts: RunFacts) -> Checkpoint:
        checkpoint = await super().claim_once(facts)
        return replace(checkpoint, state=dict(sorted(checkpoint.state.items())[1:]))


class ForgetsWhoWroteFromOutside(SimulatedStore):
    """A checkpoint without the ids of others' records: after a take-over, what they send again counts again."""

    async def claim_once(self, facts: RunFacts) -> Checkpoint:
        checkpoint = await super().claim_once(facts)
        if not checkpoint.progress:
            return checkpoint
        progress = msgspec.msgpack.decode(checkpoint.progress, type=Progress)
        progress.seen.windows.clear()
        return replace(checkpoint, progress=msgspec.msgpack.encode(progress))


class KeepsAShardIncomplete(SimulatedStore):
    """Keeps snapshots without one key of the state."""

    async def keep_once(self, hours: int) -> None:
        await super().keep_once(hours)
        for kept in self._database.shards[self._name.stage, self._name.shard].snapshots.values():
            kept.state.pop(min(kept.state, default=""), None)


class KeepsAShardAsItWasBefore(SimulatedStore):
    """Keeps snapshots with the state of an earlier one, as a copy would that another commit overtakes."""

    async def keep_once(self, hours: int) -> None:
        await super().keep_once(hours)
        kept = self._database.shards[self._name.stage, self._name.shard].snapshots
        for earlier, later in pairwise(sorted(kept)):
            kept[later].state = kept[earlier].state


class SkipsACommand(SimulatedCommands):
    """Reads past every third row."""

    async def after(self, ordinal: int) -> Sequence[StoredCommand]:
        return [row for row in await super().after(ordinal) if row.ordinal % 3]


class ReadsTheNewestCommandFirst(SimulatedCommands):
    """Reads rows in no order."""

    async def after(self, ordinal: int) -> Sequence[StoredCommand]:
        return list(reversed(await super().after(ordinal)))


class LosesDeadLetters(SimulatedProducer):
    """Acknowledges dead letters, and writes none."""

    async def write(self, topic: str, partition: int, records: Sequence[Outgoing]) -> list[Acknowledgement]:
        if not topic.endswith(".dlq"):
            return await super().write(topic, partition, records)
        return [_written(topic, partition)]


class Deaf:
    """A stage that does not hear the kill."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.name = stage.name

    def state_type(self, key: str) -> type:
        return self._stage.state_type(key)

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        if isinstance(event, ControlCommand) and event.level is Level.HALTED:
            event = msgspec.structs.replace(event, level=Level.ACTIVE)
        return self._stage.step(state, event)


class NobodyHearsTheKill(Parts):
    """Risk and execution go on after a kill; whoever steps them again finds nothing wrong with that."""

    def hosting(self, run: Run, name: str) -> StageHosting:
        hosting = hosting_of(run, name)
        if name not in ("risk", "execution"):
            return hosting
        return replace(hosting, make_stage=lambda: Deaf(hosting.make_stage()))


class SendsIntentsTwice(VenueClient):
    """Sends every order again, as somebody might who has had no answer."""

    async def submit(self, request: SubmitRequested, *, epoch: int, now_ns: int) -> None:
        await super().submit(request, epoch=epoch, now_ns=now_ns)
        await super().submit(request, epoch=epoch, now_ns=now_ns)


class SaysTooLateOfWhatItSends(VenueClient):
    """Reports NOT_SENT of an order that it has sent."""

    async def submit(self, request: SubmitRequested, *, epoch: int, now_ns: int) -> None:
        await super().submit(request, epoch=epoch, now_ns=now_ns)
        await super().submit(request, epoch=epoch, now_ns=request.not_after_ns + 1)


class LosesAnAcknowledgedRecord(SimulatedProducer):
    """Acknowledges every hundredth record without writing it."""

    taken = 0

    async def write(self, topic: str, partition: int, records: Sequence[Outgoing]) -> list[Acknowledgement]:
        found: list[Acknowledgement] = []
        for record in records:
            self.taken += 1
            lost = self.taken % 100 == 0
            found += [_written(topic, partition)] if lost else await super().write(topic, partition, [record])
        return found


def _written(topic: str, partition: int) -> Acknowledgement:
    done = asyncio.get_running_loop().create_future()
    done.set_result(Written(topic, partition, 0))
    return Acknowledgement(topic, partition, done, 0)


def _first_failure(parts: Parts) -> Outcome | None:
    for seed in range(1, SEEDS_AT_MOST + 1):
        outcome = simulate(seed, parts=parts)
        if outcome.violations:
            return outcome
    return None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "promise"),
    [
        (Parts(store=ForgetsWhatItHasSeen), ""),
        (Parts(store=DropsAnOutboxRow), ""),
        (Parts(store=AnswersBeforeItHasWritten), ""),
        (Parts(store=LetsEverybodyWrite), ""),
        (Parts(store=TakesALostAnswerForALostCommit), ""),
        (Parts(store=TakesALostCommitForALostAnswer), ""),
        (Parts(store=ForgetsAKey), ""),
        (Parts(store=ForgetsWhoWroteFromOutside), ""),
        (Parts(store=KeepsAShardIncomplete), "the state follows from the inputs"),
        (Parts(store=KeepsAShardAsItWasBefore), "the state follows from the inputs"),
        (Parts(client=SendsIntentsTwice), "an intent is at most one request"),
        (Parts(client=SaysTooLateOfWhatItSends), ""),
        (Parts(producer=LosesAnAcknowledgedRecord), ""),
        (Parts(producer=LosesDeadLetters), "every refused record is a dead letter"),
        (Parts(commands=SkipsACommand), "only faults end a process"),
        (Parts(commands=ReadsTheNewestCommandFirst), "a command is passed on once, in order"),
        (NobodyHearsTheKill(), "after a kill no order leaves"),
    ],
    ids=lambda given: _faulty(given) if isinstance(given, Parts) else " ",
)
def test_a_missing_safety_is_found_within_a_few_seeds(parts: Parts, promise: str) -> None:
    found = _first_failure(parts)
    assert found is not None, f"{parts} got past {SEEDS_AT_MOST} seeds"
    assert found.violations[0].expected != found.violations[0].found
    assert promise in {"", *(violation.promise for violation in found.violations)}
    assert found.command == f"tradermind simulate --seed {found.seed} --events {found.events}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts",
    [Parts(store=DropsAnOutboxRow), Parts(store=ForgetsAKey)],
    ids=lambda parts: _faulty(parts),
)
def test_crash_points_find_a_missing_safety(parts: Parts) -> None:
    points = crash_points(undisturbed(SHORT_SEED, parts=parts).calls, 40)
    found = next(
        (one for point in points if (one := simulate(SHORT_SEED, SHORT_EVENTS, parts, point)).violations), None
    )
    assert found is not None, f"{parts} got past 40 crash points"
    assert found.crash is not None
    assert f"--crash-points --point {found.crash.at}" in found.command


def _faulty(parts: Parts) -> str:
    kinds = (type(parts), parts.store, parts.client, parts.producer, parts.commands)
    return next(kind.__name__ for kind in kinds if kind.__module__ == __name__)
