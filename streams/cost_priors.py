"""What is believed of costs before a first fill, by the decider and by a replayed market; and back from estimates."""

from collections.abc import Mapping
from decimal import Decimal

from agents.costs.estimate import HALF_LIFE_FILLS, PRIOR_FILLS, CostEstimate, CostPrior
from agents.sim.replay_engine import Slippage
from infra.settings_costs import CostSettings
from schemas.market import InstrumentDefined


def priors_of(costs: Mapping[str, CostSettings]) -> dict[str, CostPrior]:
    """Return the priors that the settings describe."""
    return {name: CostPrior(**{key: float(value) for key, value in item}) for name, item in costs.items()}


def settings_of(found: Mapping[str, CostEstimate]) -> dict[str, CostSettings]:
    """Return what a later run may begin with: worth as many fills as it was learnt from, within the half-life."""
    return {
        name: CostSettings(
            excess=_plain(item.excess),
            fee=_plain(item.fee),
            impact_coefficient=_plain(item.impact_coefficient),
            fills=_plain(min(PRIOR_FILLS + item.fills, HALF_LIFE_FILLS)),
        )
        for name, item in found.items()
    }


def slippage_of(priors: Mapping[str, CostPrior], instruments: Mapping[str, InstrumentDefined]) -> dict[str, Slippage]:
    """Return what takers pay beyond a quote behind which nothing is recorded: what it has been found to cost."""
    return {
        name: Slippage(Decimal(repr(prior.excess)), instruments[name].tick_size)
        for name, prior in priors.items()
        if name in instruments and prior.excess > 0
    }


def _plain(value: float) -> Decimal:
    """Return a number as TOML writes it: without exponent."""
    return Decimal(f"{value:.12f}").normalize() if value else Decimal(0)
