"""The release train as the decider keeps it: which model is champion, which canary, which shadow, and the way back.

A model is what its digest says it is; its name is for people. What is in force is a function of the releases read so
far and of the settings, so that a restart and a replay have the same model at every decision.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from agents.decider.config import DeciderConfig, Follows, StrategyConfig
from agents.decider.policy_source import LoadedPolicy, ModelName
from agents.decider.state import shadow_prefix, watch_key
from agents.stage import ShardState
from schemas.event import Event
from schemas.feedback import ModelRelease, ReleaseStage, RetirementReason

RELEASES_KEY: Final = "releases"
AUTHOR: Final = "decider"
SHADOWS_MAX: Final = 8
"""So many shadows are asked at each tally; one more, and the oldest goes."""
_CHAMPIONS_MAX: Final = 32
_RETIRED_MAX: Final = 1_000


class Releases(msgspec.Struct, kw_only=True):
    """Digests by stage, oldest first: the last of ``champions`` is in force, those before it are the way back.

    ``names`` are the models' by digest. ``retired`` keeps a champion of the settings from coming back.
    """

    names: dict[str, str] = {}
    champions: list[str] = []
    canaries: list[str] = []
    shadows: list[str] = []
    retired: list[str] = []


def champion_of(state: ShardState, config: DeciderConfig) -> ModelName | None:
    """Return the champion in force: the newest that is not retired, that of the settings at the last."""
    kept: Releases = state.get(RELEASES_KEY) or Releases()
    if kept.champions:
        return _named(kept, kept.champions[-1])
    first = config.models.champion
    taken = first is not None and first.sha256 in (*kept.retired, *kept.canaries, *kept.shadows)
    return None if taken else first


def canary_of(state: ShardState) -> ModelName | None:
    """Return the canary in force."""
    kept: Releases = state.get(RELEASES_KEY) or Releases()
    return _named(kept, kept.canaries[-1]) if kept.canaries else None


def shadows_of(state: ShardState) -> tuple[ModelName, ...]:
    """Return the models in shadow, oldest first."""
    kept: Releases = state.get(RELEASES_KEY) or Releases()
    return tuple(_named(kept, sha256) for sha256 in kept.shadows)


def model_in(state: ShardState, config: DeciderConfig, strategy: StrategyConfig) -> ModelName | None:
    """Return the released model that acts in a strategy now."""
    if strategy.follows is Follows.CHAMPION:
        return champion_of(state, config)
    return canary_of(state) if strategy.follows is Follows.CANARY else None


def is_withheld(config: DeciderConfig, model: ModelName, instrument: str) -> bool:
    """Return whether a model in force does not act on an instrument, since it was not trained on it.

    A function of the artefact, the instrument and the settings. One that is refused is not withheld but retired.
    """
    if config.models.act_outside_training:
        return False
    loaded = config.source.policy(model.sha256)
    return isinstance(loaded, LoadedPolicy) and loaded.markets is not None and instrument not in loaded.markets


def take_release(state: ShardState, config: DeciderConfig, release: ModelRelease) -> list[ModelRelease]:
    """Put a model where a release says, and return what that retires.

    A candidate is only heard of. An artefact that is refused changes nothing but that its own model is retired. Our own
    word, which comes back on the topic, finds itself done.
    """
    model, stage = ModelName(release.model, release.sha256), release.release_stage
    if stage is ReleaseStage.CANDIDATE:
        return []
    if stage is ReleaseStage.RETIRED:
        _put(state, config, model, stage)
        return []
    if not isinstance(config.source.policy(model.sha256), LoadedPolicy):
        return [retire(state, config, model, RetirementReason.ARTEFACT_REFUSED, release)]
    over = _put(state, config, model, stage)
    return [retire(state, config, old, RetirementReason.SUPERSEDED, release) for old in over]


def retire(
    state: ShardState, config: DeciderConfig, model: ModelName, reason: RetirementReason, cause: Event
) -> ModelRelease:
    """Take a model out of force, and return the release that says so."""
    _put(state, config, model, ReleaseStage.RETIRED)
    return ModelRelease(
        key=model.model,
        event_time_ns=cause.event_time_ns,
        available_at_ns=cause.available_at_ns,
        model=model.model,
        sha256=model.sha256,
        release_stage=ReleaseStage.RETIRED,
        reason=reason.value,
        author=AUTHOR,
    )


def _in_force(state: ShardState, config: DeciderConfig) -> Iterator[tuple[str, ReleaseStage]]:
    champion, canary = champion_of(state, config), canary_of(state)
    if champion is not None:
        yield champion.sha256, ReleaseStage.CHAMPION
    if canary is not None:
        yield canary.sha256, ReleaseStage.CANARY
    for shadow in shadows_of(state):
        yield shadow.sha256, ReleaseStage.SHADOW


def _put(state: ShardState, config: DeciderConfig, model: ModelName, stage: ReleaseStage) -> list[ModelName]:
    """Move a model to a stage, and return those whose place it takes for good.

    What is kept of a model begins anew whenever it comes into force or goes out of it.
    """
    before = set(_in_force(state, config))
    kept: Releases = state.get(RELEASES_KEY) or Releases()
    for digests in (kept.champions, kept.canaries, kept.shadows, kept.retired):
        if model.sha256 in digests:
            digests.remove(model.sha256)
    places = {
        ReleaseStage.CHAMPION: (kept.champions, _CHAMPIONS_MAX),
        ReleaseStage.CANARY: (kept.canaries, 1),
        ReleaseStage.SHADOW: (kept.shadows, SHADOWS_MAX),
        ReleaseStage.RETIRED: (kept.retired, _RETIRED_MAX),
    }
    digests, most = places[stage]
    digests.append(model.sha256)
    kept.names[model.sha256] = model.model
    over = [_named(kept, sha256) for sha256 in digests[:-most]]
    del digests[:-most]
    known = {*kept.champions, *kept.canaries, *kept.shadows}
    kept.names = {sha256: name for sha256, name in kept.names.items() if sha256 in known}
    state[RELEASES_KEY] = kept
    for sha256, _ in before ^ set(_in_force(state, config)):
        _forget(state, sha256)
    return over if stage in (ReleaseStage.CANARY, ReleaseStage.SHADOW) else []


def _forget(state: ShardState, sha256: str) -> None:
    prefix = shadow_prefix(sha256)
    for key in [key for key in state if key == watch_key(sha256) or key.startswith(prefix)]:
        del state[key]


def _named(kept: Releases, sha256: str) -> ModelName:
    return ModelName(kept.names[sha256], sha256)
