"""What a world is made of. A test puts a faulty part in, to see that the checkers find it."""

from collections.abc import Sequence
from dataclasses import dataclass

from streams.composition import Run
from streams.engine.ports import StageHosting
from streams.ingestion import ingress_hostings
from streams.launch import stage_hosting
from streams.simulation.database import SimulatedStore
from streams.simulation.log import SimulatedProducer
from streams.simulation.people import SimulatedClaims, SimulatedCommands
from streams.simulation.venue import VenueClient


def hosting_of(run: Run, name: str) -> StageHosting:
    """Return how a stage is hosted, those of the public topics too."""
    ingress = {hosting.name: hosting for hosting in ingress_hostings(run)}
    return ingress.get(name) or stage_hosting(run, "", name)


@dataclass(frozen=True, slots=True)
class Parts:
    """The kinds of everything that the engine meets in a run, and of the stages that it hosts."""

    store: type[SimulatedStore] = SimulatedStore
    producer: type[SimulatedProducer] = SimulatedProducer
    client: type[VenueClient] = VenueClient
    commands: type[SimulatedCommands] = SimulatedCommands
    claims: type[SimulatedClaims] = SimulatedClaims

    def hosting(self, run: Run, name: str) -> StageHosting:
        """Return how a stage of the run is hosted."""
        return hosting_of(run, name)


@dataclass(slots=True)
class Unforgetting:
    """Latencies go nowhere: no checker asks for them."""

    written: int = 0

    async def write(self, rows: Sequence[tuple[str, int]]) -> None:
        """Count them."""
        self.written += len(rows)

    async def close(self) -> None:
        """Do nothing."""
