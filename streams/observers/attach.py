"""Gives each stage of a worker its observer: the one place that knows which stage is watched by whom."""

import dataclasses

from agents.decider.stage import Decider
from infra.metrics.registry import Metrics
from streams.composition import Run, decider_config, execution_config, risk_config, voting_config
from streams.engine.observing import Observer
from streams.engine.ports import StageHosting
from streams.observers.decider import DeciderObserver, new_times, timed
from streams.observers.execution import ExecutionObserver, VenueTimes
from streams.observers.feedback import FeedbackObserver
from streams.observers.risk import RiskObserver
from streams.observers.voting import VotingObserver


def observed(run: Run, hosting: StageHosting, metrics: Metrics, times: VenueTimes) -> StageHosting:
    """Return the hosting with its observer; ``times`` is what execution's companion writes to."""
    observer: Observer | None = None
    if hosting.name == "decider":
        answers, config = new_times(), decider_config(run)
        return dataclasses.replace(
            hosting,
            observer=DeciderObserver(metrics, config, answers),
            make_stage=lambda: Decider(timed(config, answers)),
        )
    if hosting.name == "voting":
        observer = VotingObserver(metrics, voting_config(run))
    elif hosting.name == "risk":
        observer = RiskObserver(metrics, risk_config(run))
    elif hosting.name == "execution":
        observer = ExecutionObserver(metrics, execution_config(run), times)
    elif hosting.name == "feedback":
        observer = FeedbackObserver(metrics)
    return hosting if observer is None else dataclasses.replace(hosting, observer=observer)
