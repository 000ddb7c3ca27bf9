"""Where each model stands by the record, and whether it may go a step further: the gate over its paper result.

The CLI asks early and prints the figures; the control worker asks again from its own place when it reads the command.
A row proves nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from agents.release.gate import GateTerms, GateVerdict, judge
from agents.release.paper import Pair, paper_result
from infra.artefacts import ArtefactRefused
from infra.models.store import ModelStore
from infra.postgres.queries import Connection, Row
from infra.postgres.queries_models import PairsAsked, pairs, releases
from infra.settings import Settings
from infra.settings_models import ModelSettings
from schemas.feedback import ReleaseStage
from schemas.values import units

BEFORE: Final[Mapping[ReleaseStage, tuple[ReleaseStage | None, ...]]] = {
    ReleaseStage.SHADOW: (None, ReleaseStage.CANDIDATE, ReleaseStage.RETIRED),
    ReleaseStage.CANARY: (ReleaseStage.SHADOW,),
    ReleaseStage.CHAMPION: (ReleaseStage.CANARY,),
}
"""Stage -> those from which a model may come to it. Out of force it may come from anywhere."""
GATED: Final = (ReleaseStage.CANARY, ReleaseStage.CHAMPION)


class Standing(NamedTuple):
    """A model by its newest release: since when (ns), why and by whom. ``in_force``: of champions only the last is."""

    model: str
    sha256: str
    stage: ReleaseStage
    since_ns: int
    in_force: bool
    reason: str
    author: str


class Standings(NamedTuple):
    """Every released model by its address, and when another champion last came into force (ns; 0: never)."""

    by_address: Mapping[str, Standing]
    champion: str | None
    champion_since_ns: int

    def stage(self, sha256: str) -> ReleaseStage | None:
        """Return the stage of a model; None when no release has named it."""
        found = self.by_address.get(sha256)
        return None if found is None else found.stage


def standings(connection: Connection) -> Standings:
    """Return how models stand by the record."""
    return standings_of(releases(connection))


def standings_of(rows: Iterable[Row]) -> Standings:
    """Return how models stand after these releases, given in their order."""
    newest: dict[str, Standing] = {}
    champions: list[str] = []
    changed_ns = 0
    for row in rows:
        sha256, stage = row["sha256"], ReleaseStage(row["release_stage"])
        before = champions[-1:]
        champions = [other for other in champions if other != sha256]
        if stage is ReleaseStage.CHAMPION:
            champions.append(sha256)
        if champions[-1:] != before:
            changed_ns = row["available_at_ns"]
        newest[sha256] = Standing(
            row["model"], sha256, stage, row["available_at_ns"], True, row["reason"], row["author"]
        )
    champion = champions[-1] if champions else None
    by_address = {
        sha256: standing._replace(in_force=_is_in_force(standing, champion)) for sha256, standing in newest.items()
    }
    return Standings(by_address, champion, changed_ns)


def _is_in_force(standing: Standing, champion: str | None) -> bool:
    if standing.stage is ReleaseStage.CHAMPION:
        return standing.sha256 == champion
    return standing.stage in (ReleaseStage.SHADOW, ReleaseStage.CANARY)


def with_champion_of_settings(known: Standings, store: ModelStore, settings: Settings) -> Standings:
    """Return standings with the champion that the settings begin with, while no release has named another."""
    follows = any(strategy.policy == "champion" for strategy in settings.strategies.values())
    if known.champion is not None or not follows:
        return known
    try:
        sha256 = store.champion(settings.models.champion)
        model = store.read(sha256).name
    except ArtefactRefused:
        return known
    if sha256 in known.by_address:
        return known
    first = Standing(model, sha256, ReleaseStage.CHAMPION, 0, True, "models.champion", "settings")
    return known._replace(by_address={**known.by_address, sha256: first})


def may_step(before: ReleaseStage | None, stage: ReleaseStage) -> bool:
    """Return whether a model may come to a stage from the one it is in."""
    return stage is ReleaseStage.RETIRED or before in BEFORE.get(stage, ())


def no_place_for(settings: Settings, stage: ReleaseStage) -> str:
    """Return why a model in a stage would decide nothing in a run with these settings, or nothing."""
    policy = "canary" if stage is ReleaseStage.CANARY else "champion"
    if any(strategy.policy == policy for strategy in settings.strategies.values()):
        return ""
    return f"no strategy of the settings has the policy {policy!r}, so that nothing would come of {stage}"


def gate_terms(models: ModelSettings) -> GateTerms:
    """Return what the settings ask of the gate."""
    return GateTerms(
        decisions_min=models.gate_decisions_min,
        level=float(models.gate_level),
        differing_max=float(models.gate_differing_max),
    )


def gate(connection: Connection, settings: Settings, sha256: str) -> GateVerdict | None:
    """Return how a model in shadow or on trial compares with the champion; None for one that is neither.

    Pairs count from when the model came into its stage, or the champion into force, whichever is later. On a capture
    releases have people's time and decisions the capture's; there all of the model's in that stage count.
    """
    known = standings(connection)
    standing = known.by_address.get(sha256)
    if standing is None or standing.stage not in (ReleaseStage.SHADOW, ReleaseStage.CANARY):
        return None
    since_ns = max(standing.since_ns, known.champion_since_ns) if settings.run.clock == "wall" else 0
    following = tuple(name for name, item in settings.strategies.items() if item.policy == "champion")
    rows = pairs(connection, PairsAsked(standing.model, standing.stage.value, since_ns, following))
    last = str(rows[-1]["tally_id"]) if rows else ""
    result = paper_result(_pair(row) for row in rows)
    return judge(result, gate_terms(settings.models), sha256, known.champion or "", last)


def _pair(row: Row) -> Pair:
    mid = None if row["mid"] is None else units(row["mid"])
    spread, excess, fee = row["spread"], row["excess"], row["fee"]
    known = spread is not None and excess is not None and fee is not None
    one_way = max(0.0, spread / 2 + excess) + fee if known else None
    return Pair(row["line"], row["at_ns"], mid, one_way, row["incumbent"], row["challenger"])


def figures(verdict: GateVerdict, terms: GateTerms) -> str:
    """Return the gate's figures in one line for people."""
    return (
        f"{verdict.decisions} decisions of {terms.decisions_min}, mean advantage {verdict.mean:.3g} of the budget,"
        f" lower bound at {terms.level:g} {verdict.lower:.3g}, other targets on {verdict.differing:.1%}"
        f" of at most {terms.differing_max:.0%}"
    )


def told(verdict: GateVerdict | None, terms: GateTerms) -> str:
    """Return what the gate says and its figures, in one line."""
    if verdict is None:
        return "there is no paper result to judge"
    which = "passed" if verdict.passes else ", ".join(verdict.refusals)
    return f"{which}: {figures(verdict, terms)}"
