"""The composition root: settings taken apart into the configurations of stages. The only place that sees both sides.

The same functions build the stages of a worker, of a replay and of a backtest, so that there is one answer to what
a run's stages are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from agents.control.stage import Control
from agents.costs.estimate import CostPrior
from agents.decider.config import DeciderConfig
from agents.decider.stage import Decider
from agents.execution.reconciliation_state import OrphanPolicy
from agents.execution.stage import Execution
from agents.execution.state import AccountTerms, ExecutionConfig, StrategyTerms
from agents.experts._registry import load as load_experts
from agents.experts.stage import Experts, ExpertsConfig
from agents.features.state import FeatureConfig
from agents.feedback.config import FeedbackConfig, StrategyFeedback
from agents.feedback.stage import Feedback
from agents.limits.book import LimitBook
from agents.limits.limit_set import LimitSet
from agents.market.ingress import Ingress, IngressConfig
from agents.market.settings import IngestionConfig
from agents.market.stage import Ingestion
from agents.risk.config import RiskConfig
from agents.risk.stage import Risk
from agents.stage import Stage
from agents.trainer.stage import Trainer, TrainerConfig
from agents.voting.ballot import BallotConfig
from agents.voting.stage import Voting, VotingConfig
from infra.feeds.capture import Capture, open_capture
from infra.feeds.instruments import infer_increments
from infra.settings import Settings, SettingsError
from infra.settings_strategies import StrategySettings
from schemas.market import InstrumentDefined
from schemas.values import NS_PER_MS, NS_PER_S, units
from streams.cost_priors import priors_of
from streams.limit_seeds import seed_book, seed_limits
from streams.policies import models_of
from streams.strategies import amend_powers, strategy_config, strategy_risk

SIMULATED_VENUE: Final = "SIM"
EXTERNAL_VENUE: Final = "EXT"
"""Instruments without a feed of ours: other systems write their market data to the ingest topics."""


@dataclass(frozen=True)
class Run:
    """A run as its stages see it: the settings and its instruments, of which ``fed`` have a feed of ours.

    ``cost_priors``: what the decider believes of costs before the first fill.
    """

    settings: Settings
    instruments: Mapping[str, InstrumentDefined]
    capture: Capture | None
    fed: frozenset[str]
    cost_priors: Mapping[str, CostPrior] = field(default_factory=dict)

    @property
    def on_capture(self) -> bool:
        """Whether the run's clock is a capture's."""
        return self.capture is not None


def compose(settings: Settings) -> Run:
    """Return the run that the settings describe. Raises SettingsError, and FeedFailed for a capture that is not one."""
    known = settings.instrument_events()
    feed = settings.feed
    capture = open_capture(feed.paths) if feed.kind == "capture" else None
    if capture is not None:
        instruments = {name: known.get(name) or infer_increments(capture, name) for name in capture.instruments}
    elif feed.kind == "simulated":
        instruments = {name: item for name, item in known.items() if item.venue == SIMULATED_VENUE}
    else:
        instruments = {name: known[name] for name in feed.instruments}
    if feed.instruments:
        instruments = {name: item for name, item in instruments.items() if name in feed.instruments}
    external = {name: item for name, item in known.items() if item.venue == EXTERNAL_VENUE}
    if not instruments:
        raise SettingsError("feed: none of the instruments that the feed has is left.")
    every = dict(sorted((instruments | external).items()))
    run = Run(settings, every, capture, frozenset(instruments), priors_of(settings.costs))
    for name in STAGES:
        try:
            build_stage(run, name)
        except ValueError as error:
            raise SettingsError(f"{name}: {str(error).rstrip('.')}.") from error
    return run


def build_stage(run: Run, name: str) -> Stage:
    """Return a new stage of this name. Raises KeyError for a name that is not a stage, ValueError for its settings."""
    return STAGES[name](run)


def _ingestion(run: Run) -> Stage:
    staleness = run.settings.staleness
    return Ingestion(
        IngestionConfig(
            instruments=run.instruments,
            stale_after_ns=staleness.market_ms * NS_PER_MS,
            future_limit_ns=staleness.future_ms * NS_PER_MS,
        )
    )


def _ingress(run: Run) -> Stage:
    native = frozenset(load_experts())
    return Ingress(
        IngressConfig(
            instruments=run.instruments,
            native_experts=native,
            fed_instruments=run.fed,
            future_limit_ns=run.settings.staleness.future_ms * NS_PER_MS,
        )
    )


def _experts(run: Run) -> Stage:
    buckets = {
        name: units(item.vpin_bucket)
        for name, item in run.settings.instruments.items()
        if item.vpin_bucket is not None and name in run.instruments
    }
    features = FeatureConfig(
        instruments=run.instruments,
        vpin_bucket_volumes=buckets,
        deadline_ns=run.settings.grid.ballot_deadline_ms * NS_PER_MS,
        stale_after_ns=run.settings.staleness.market_ms * NS_PER_MS,
    )
    return Experts(ExpertsConfig(features=features))


def voting_config(run: Run) -> VotingConfig:
    """Return what the run's committee is told, for whoever reads its state."""
    ballots = BallotConfig(early_keep_ns=run.settings.grid.ballot_deadline_ms * NS_PER_MS)
    return VotingConfig(instruments=run.instruments, ballots=ballots)


def _voting(run: Run) -> Stage:
    return Voting(voting_config(run))


def decider_config(run: Run) -> DeciderConfig:
    """Return what the run's decider is told, for whoever builds one around another policy."""
    strategies = tuple(
        strategy_config(
            name,
            strategy,
            traded(run, strategy),
            budget(run, strategy),
            run.settings.accounts[strategy.account].conversion_rates,
        )
        for name, strategy in sorted(run.settings.strategies.items())
    )
    source, models = models_of(run.settings)
    staleness = run.settings.staleness
    return DeciderConfig(
        instruments=run.instruments,
        strategies=strategies,
        decision_life_ns=staleness.decision_ms * NS_PER_MS,
        stale_after_ns=staleness.market_ms * NS_PER_MS,
        cost_priors=run.cost_priors,
        source=source,
        models=models,
    )


def _decider(run: Run) -> Stage:
    return Decider(decider_config(run))


def traded(run: Run, strategy: StrategySettings) -> tuple[str, ...]:
    """Return the instruments of the run that a strategy trades: those its account can value, none inverse."""
    account = run.settings.accounts[strategy.account]
    currencies = {account.currency, *account.conversion_rates}
    return tuple(
        name
        for name, item in run.instruments.items()
        if (("*" in strategy.instruments and name in run.fed) or name in strategy.instruments)
        and item.quote_currency in currencies
        and not item.inverse
    )


def budget(run: Run, strategy: StrategySettings) -> Decimal:
    """Return the notional, in the account's currency, of target 1 on one instrument."""
    return run.settings.accounts[strategy.account].capital * strategy.share * strategy.risk_budget


def limit_book(run: Run) -> LimitBook:
    """Return the limits that the settings begin with, as sets by scope."""
    permissions = {name: traded(run, strategy) for name, strategy in run.settings.strategies.items()}
    return seed_book(run.settings, permissions)


def limit_sets(run: Run) -> dict[str, LimitSet]:
    """Return each account's limits of the settings. Raises ValueError for an unknown key or an impossible value."""
    return seed_limits(run.settings, limit_book(run))


def risk_config(run: Run) -> RiskConfig:
    """Return what the run's risk is told, for whoever reads its state."""
    strategies = {
        name: strategy_risk(name, strategy, budget(run, strategy)) for name, strategy in run.settings.strategies.items()
    }
    return RiskConfig(
        instruments=run.instruments,
        limits=limit_sets(run),
        book=limit_book(run),
        strategies=strategies,
        amends=amend_powers(run.instruments, on_binance=run.settings.venues.binance is not None and not run.on_capture),
    )


def _risk(run: Run) -> Stage:
    return Risk(risk_config(run))


def execution_config(run: Run) -> ExecutionConfig:
    """Return what the run's execution is told, for whoever reads its state."""
    settings = run.settings
    accounts = {
        name: AccountTerms(
            capital=account.capital, currency=account.currency, conversion_rates=dict(account.conversion_rates)
        )
        for name, account in settings.accounts.items()
    }
    strategies = {
        name: StrategyTerms(account=strategy.account, instruments=traded(run, strategy))
        for name, strategy in settings.strategies.items()
    }
    return ExecutionConfig(
        instruments=run.instruments,
        accounts=accounts,
        strategies=strategies,
        limits=limit_sets(run),
        book=limit_book(run),
        orphan_orders=OrphanPolicy(settings.venue.orphan_orders),
        takeover_wait_ns=settings.venue.takeover_wait_ms * NS_PER_MS,
    )


def _execution(run: Run) -> Stage:
    return Execution(execution_config(run))


def _feedback(run: Run) -> Stage:
    settings = run.settings
    strategies = {
        name: StrategyFeedback(
            name=name,
            account=strategy.account,
            currency=settings.accounts[strategy.account].currency,
            instruments=traded(run, strategy),
            horizon_ns=strategy.horizon_s * NS_PER_S,
            budget=budget(run, strategy),
            conversion_rates=dict(settings.accounts[strategy.account].conversion_rates),
        )
        for name, strategy in settings.strategies.items()
    }
    return Feedback(FeedbackConfig(instruments=run.instruments, strategies=strategies))


def _trainer(run: Run) -> Stage:
    trainer = run.settings.trainer
    return Trainer(
        TrainerConfig(
            first=trainer.first_experiences,
            every=trainer.every_experiences,
            interval_ns=trainer.interval_ms * NS_PER_MS,
        )
    )


def _control(run: Run) -> Stage:
    del run
    return Control()


STAGES: Final[Mapping[str, Callable[[Run], Stage]]] = {
    "ingestion": _ingestion,
    "ingress": _ingress,
    "experts": _experts,
    "voting": _voting,
    "decider": _decider,
    "risk": _risk,
    "execution": _execution,
    "feedback": _feedback,
    "control": _control,
    "trainer": _trainer,
}
