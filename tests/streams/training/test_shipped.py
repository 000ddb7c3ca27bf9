"""The champion that ships: verified to the byte, by the decider's own schema, and better than doing nothing."""

from agents.decider.encoding import CONTEXT_FEATURES, SCHEMA, VOTE_FEATURES
from agents.sim.instruments import SIM_INSTRUMENTS
from infra.artefacts import read_directory
from infra.models.keys import development_key
from infra.models.store import SHIPPED

KEY = development_key()


def test_it_is_what_was_signed_and_reads_what_the_decider_gives() -> None:
    artefact = read_directory(SHIPPED, {KEY.name: KEY.public_key})
    artefact.refuse_other_schema(SCHEMA, VOTE_FEATURES, CONTEXT_FEATURES)
    assert {part.source.split(", ")[1] for part in artefact.spec.data} == {"simulated"}


def test_it_acts_on_the_simulated_instruments_and_on_no_other() -> None:
    spec = read_directory(SHIPPED, {KEY.name: KEY.public_key}).spec
    assert spec.markets == tuple(sorted(SIM_INSTRUMENTS))


def test_it_earned_on_markets_that_it_had_not_seen() -> None:
    spec = read_directory(SHIPPED, {KEY.name: KEY.public_key}).spec
    assert spec.metrics["mixed.low"] > 0
