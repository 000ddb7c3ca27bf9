"""The champion that ships: verified to the byte, by the decider's own schema, and better than doing nothing."""

import pytest

from agents.decider.encoding import CONTEXT_FEATURES, SCHEMA, VOTE_FEATURES
from agents.decider.set_policy import SetPolicy
from agents.sim.env import EnvironmentTerms, TradingEnvironment
from infra.artefacts import read_directory
from infra.models.keys import development_key
from infra.models.store import SHIPPED
from streams.training.markets import Market, tapes_of
from streams.training.playing import play

KEY = development_key()


def test_it_is_what_was_signed_and_reads_what_the_decider_gives() -> None:
    artefact = read_directory(SHIPPED, {KEY.name: KEY.public_key})
    artefact.refuse_other_schema(SCHEMA, VOTE_FEATURES, CONTEXT_FEATURES)
    assert {part.source.split(", ")[1] for part in artefact.spec.data} == {"simulated"}


def test_it_earned_on_markets_that_it_had_not_seen() -> None:
    spec = read_directory(SHIPPED, {KEY.name: KEY.public_key}).spec
    assert spec.metrics["mixed.low"] > 0


@pytest.mark.slow
def test_it_earns_on_one_more_market() -> None:
    """One stretch of seven minutes says little of how much; that it loses there would say that something is broken."""
    artefact = read_directory(SHIPPED, {KEY.name: KEY.public_key})
    tapes = tapes_of(Market("mixed", 501, 420.0), only="SIM:BTCUSD")
    played = play(
        TradingEnvironment(tapes, EnvironmentTerms(episode_steps=None), 0),
        SetPolicy(artefact.name, artefact.weights),
        {"tape": 0, "start": 0},
    )
    assert played.turnover > 0
    assert played.net > 0
