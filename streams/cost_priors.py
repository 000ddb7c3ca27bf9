"""What a decider believes of costs before its first fill: from the settings, and back into them from estimates."""

from collections.abc import Mapping
from decimal import Decimal

from agents.costs.estimate import HALF_LIFE_FILLS, PRIOR_FILLS, CostEstimate, CostPrior
from infra.settings_costs import CostSettings


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


def _plain(value: float) -> Decimal:
    """Return a number as TOML writes it: without exponent."""
    return Decimal(f"{value:.12f}").normalize() if value else Decimal(0)
