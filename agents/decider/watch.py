"""What is watched of each model in force, and takes it out of force without a person: its inputs and its losses.

What is watched begins anew with each change of stage, so that nobody answers for what another has done.
"""

import msgspec

from agents.decider.config import DeciderConfig
from agents.decider.policy_source import LoadedPolicy, ModelName
from agents.decider.releases import is_withheld, model_in
from agents.decider.state import LineState, line_key, watch_key
from agents.release.drift import Drift, DriftState, observe
from agents.stage import ShardState
from schemas.orders import AccountMark


class Watch(msgspec.Struct, kw_only=True):
    """What is kept of one model in force.

    ``starts`` and ``results`` are net profit and loss of each line that it acts on, as shares of that line's budget,
    when it came into force and now; ``best`` is the best that their difference has been, over all lines, at least 0.
    """

    drift: DriftState
    starts: dict[str, float] = {}
    results: dict[str, float] = {}
    best: float = 0.0


def drifted(
    state: ShardState, config: DeciderConfig, model: ModelName, loaded: LoadedPolicy, seen: dict[str, float | None]
) -> Drift | None:
    """Take what a model saw at one decision; return what of it is not what its training had, once that is known."""
    if config.models.drift is None or loaded.standardised is None:
        return None
    watch = _watch(state, model)
    found = observe(watch.drift, loaded.standardised(seen), config.models.drift)
    state[watch_key(model.sha256)] = watch
    return found


def losing(state: ShardState, config: DeciderConfig, mark: AccountMark) -> ModelName | None:
    """Take a line's valuation; return the model that acts on it once its lines have lost more than they may."""
    strategy = next((item for item in config.strategies if item.name == mark.strategy), None)
    model = None if strategy is None else model_in(state, config, strategy)
    if strategy is None or model is None or not strategy.budget or mark.mid is None:
        return None
    if is_withheld(config, model, mark.instrument):
        return None  # Whoever acts there, it is not the model.
    watch = _watch(state, model)
    line = line_key(mark.strategy, mark.instrument)
    kept: LineState = state[line]
    assert kept.gained is not None, "a valuation is taken before it is judged"
    watch.results[line] = kept.gained
    watch.starts.setdefault(line, watch.results[line])
    result = sum(watch.results[name] - start for name, start in watch.starts.items())
    watch.best = max(watch.best, result)
    state[watch_key(model.sha256)] = watch
    return model if watch.best - result > config.models.loss_max else None


def _watch(state: ShardState, model: ModelName) -> Watch:
    kept: Watch | None = state.get(watch_key(model.sha256))
    return Watch(drift=DriftState()) if kept is None else kept
