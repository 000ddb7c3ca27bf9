"""The checkers of the simulation, checked: each part of the engine's safety, taken away, is found within a few seeds.

A faulty part stands in the place of a simulated one; the engine itself is not touched.
"""

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from infra.postgres.patient_store import Checkpoint, Commit, RunFacts
from schemas.orders import SubmitRequested
from streams.engine.dedupe import SeenPositions
from streams.engine.shard import Progress
from streams.simulation.database import SimulatedStore
from streams.simulation.log import SimulatedProducer
from streams.simulation.run import Outcome, simulate
from streams.simulation.venue import VenueClient
from streams.simulation.world import Parts

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

    async def send(self, *record: Any) -> Any:
        self.taken += 1
        if self.taken % 100:
            return await super().send(*record)
        done = self._loop.create_future()
        done.set_result(await _written(record))
        return done


async def _written(record: tuple[Any, ...]) -> Any:
    from streams.simulation.log import Written

    return Written(record[0], record[3], 0)


def _first_failure(parts: Parts) -> Outcome | None:
    for seed in range(1, SEEDS_AT_MOST + 1):
        outcome = simulate(seed, parts=parts)
        if outcome.violations:
            return outcome
    return None


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts",
    [
        Parts(store=ForgetsWhatItHasSeen),
        Parts(store=DropsAnOutboxRow),
        Parts(store=AnswersBeforeItHasWritten),
        Parts(store=LetsEverybodyWrite),
        Parts(store=TakesALostAnswerForALostCommit),
        Parts(store=TakesALostCommitForALostAnswer),
        Parts(store=ForgetsAKey),
        Parts(client=SendsIntentsTwice),
        Parts(client=SaysTooLateOfWhatItSends),
        Parts(producer=LosesAnAcknowledgedRecord),
    ],
    ids=lambda parts: next(
        kind.__name__ for kind in (parts.store, parts.client, parts.producer) if kind.__module__ == __name__
    ),
)
def test_a_missing_safety_is_found_within_a_few_seeds(parts: Parts) -> None:
    found = _first_failure(parts)
    assert found is not None, f"{parts} got past {SEEDS_AT_MOST} seeds"
    assert found.violations[0].expected != found.violations[0].found
    assert found.command == f"tradermind simulate --seed {found.seed} --events {found.events}"
