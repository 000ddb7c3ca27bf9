"""Released models as the decider asks for them: read from the store once, verified, and then held by their digest."""

from functools import partial
from typing import Final

from agents.decider.encoding import CONTEXT_FEATURES, SCHEMA, VOTE_FEATURES
from agents.decider.policy import Observation
from agents.decider.policy_source import LoadedPolicy, ModelName, ModelTerms, NoModels, PolicyRefused, PolicySource
from agents.decider.set_policy import SetPolicy
from agents.release.drift import DriftTerms
from infra.artefacts import Artefact, ArtefactRefused
from infra.models.store import ModelStore, store_of
from infra.settings import Settings, SettingsError

_FOLLOWING: Final = ("champion", "canary")
_OWN: Final = frozenset(
    {
        *("target", "exposure", "has_exposure", "allowed_low", "allowed_high", "has_allowed"),
        *("moment_mean", "moment_deviation", "has_moments", "alert_normal", "alert_elevated", "alert_high"),
        *("log_horizon", "mark_age_s"),
    }
)
_OF_THE_MARKET: Final = tuple(name not in _OWN for name in (*VOTE_FEATURES, *CONTEXT_FEATURES))
"""Which features are watched for drift: not what the line has made of itself, nor alerts, nor how fast news comes."""
assert _OWN.issubset(CONTEXT_FEATURES)


class StoredPolicies:
    """The policies of a store. What was loaded stays as it is, whatever becomes of the files; a refusal is not kept."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._loaded: dict[str, LoadedPolicy] = {}

    def policy(self, sha256: str) -> LoadedPolicy | PolicyRefused:
        """Return the policy of this artefact, or why it is refused."""
        try:
            return self.verified(sha256)
        except ArtefactRefused as refused:
            return PolicyRefused(refused.sentence)

    def verified(self, sha256: str) -> LoadedPolicy:
        """Return the policy of this artefact. Raises ArtefactRefused."""
        found = self._loaded.get(sha256)
        if found is None:
            artefact = of_our_schema(self._store, sha256)
            policy = SetPolicy(artefact.name, artefact.weights)
            markets = frozenset(artefact.spec.markets)
            found = self._loaded[sha256] = LoadedPolicy(policy, partial(_of_the_market, policy), markets)
        return found


def of_our_schema(store: ModelStore, sha256: str) -> Artefact:
    """Return an artefact that reads the features the decider gives. Raises ArtefactRefused, after the alarm."""
    artefact = store.read(sha256)
    try:
        artefact.refuse_other_schema(SCHEMA, VOTE_FEATURES, CONTEXT_FEATURES)
    except ArtefactRefused as refused:
        store.alarm(sha256, refused)
        raise
    return artefact


def _of_the_market(policy: SetPolicy, observation: Observation) -> tuple[float | None, ...]:
    features = policy.standardised(observation)
    return tuple(value if watched else None for value, watched in zip(features, _OF_THE_MARKET, strict=True))


def models_of(settings: Settings) -> tuple[PolicySource, ModelTerms]:
    """Return where a run's decider finds models, and what holds for them; no store where no strategy follows models.

    Raises SettingsError when a strategy follows the champion and the one to begin with is refused.
    """
    followed = {strategy.policy for strategy in settings.strategies.values()}
    if followed.isdisjoint(_FOLLOWING):
        return NoModels(), ModelTerms()
    store = store_of(settings)
    source, models = StoredPolicies(store), settings.models
    champion = None
    if "champion" in followed:
        try:
            sha256 = store.champion(models.champion)
            champion = ModelName(source.verified(sha256).policy.name, sha256)
        except ArtefactRefused as refused:
            raise SettingsError(f"models.champion: {refused.sentence}") from refused
    drift = DriftTerms(tolerance=float(models.drift_tolerance)) if models.watch_inputs else None
    terms = ModelTerms(champion, float(models.loss_max), drift, act_outside_training=models.act_outside_training)
    return source, terms
