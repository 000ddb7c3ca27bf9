"""The stage ``experts``: market events in; features, bars, votes, alerts and marks out.

Features, bars and experts of an instrument live in one stage because all of them follow the same ordered events: a
snapshot, the votes on it and the mark that later scores them are of one state. A grid time is closed by the first
event at or after it, from the state before that event.

Each Heartbeat is passed on twice, with ``key`` ``feature.snapshot`` and ``expert.vote``: routing sends each to the
topic of its key only, so that voting knows how far either topic has come.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from agents.experts._contract import Alert, Assessment, Expert
from agents.experts._registry import PACKAGE, load
from agents.features.engine import apply, current_mid, due_grid_time
from agents.features.snapshot import mark, snapshot
from agents.features.state import FeatureConfig, FeatureState, new_state
from agents.market import bars
from agents.stage import NO_EVENTS, ShardState
from schemas.event import Event, Heartbeat
from schemas.market import InstrumentDefined
from schemas.opinions import AnomalyAlert, FeatureSnapshot, Vote
from schemas.values import NS_PER_S

HEARTBEAT_KEYS: Final = ("feature.snapshot", "expert.vote")
"""The keys of the two Heartbeats that follow each one taken: the topics they keep time on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsConfig:
    """Settings: those of the features, which name the instruments; the experts, all of ``package`` or those named.

    ``bar_interval_ns`` is the length of a bar.
    """

    features: FeatureConfig
    names: tuple[str, ...] | None = None
    package: str = PACKAGE
    bar_interval_ns: int = NS_PER_S

    @property
    def instruments(self) -> Mapping[str, InstrumentDefined]:
        """The instruments that events may speak of."""
        return self.features.instruments


class _Keys(msgspec.Struct, frozen=True, kw_only=True):
    """The state keys of one instrument and the step of its grid, made once: they are needed for every event."""

    features: str
    bars: str
    each_event: tuple[str, str]
    grid_ns: int
    experts: tuple[tuple[str, Expert], ...]


class Experts:
    """Emits FeatureSnapshot, Vote (one per ballot and expert), AnomalyAlert, MarketMark, Bar and Heartbeats.

    State: ``<instrument>/features``, ``<instrument>/bars``, ``<instrument>/expert/<name>``. An event of an instrument
    that is not configured raises KeyError: ingestion lets none pass.
    """

    name = "experts"

    def __init__(self, config: ExpertsConfig) -> None:
        self._config = config
        self._experts = load(config.package, config.names)
        self._keys = {
            instrument: _Keys(
                features=f"{instrument}/features",
                bars=f"{instrument}/bars",
                each_event=(f"{instrument}/features", f"{instrument}/bars"),
                grid_ns=definition.grid_ns,
                experts=tuple((f"{instrument}/expert/{name}", expert) for name, expert in self._experts.items()),
            )
            for instrument, definition in config.instruments.items()
        }

    @property
    def expert_names(self) -> tuple[str, ...]:
        """The names under which the experts here vote."""
        return tuple(self._experts)

    def state_type(self, key: str) -> type:
        """Return the Struct kept under ``key``. Raises KeyError for a key that is not this stage's."""
        _, kind, *expert = key.split("/")
        if kind == "expert":
            return self._experts[expert[0]].state_type
        return {"features": FeatureState, "bars": bars.BarState}[kind]

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Take one event of ``market.event``."""
        if type(event) is Heartbeat:
            return state, self._on_heartbeat(state, event)
        instrument = event.key
        keys = self._keys[instrument]
        features: FeatureState | None = state.get(keys.features)
        if features is None:
            features = new_state(instrument, self._config.features)
            state[keys.bars] = bars.BarState(instrument=instrument, interval_ns=self._config.bar_interval_ns)
            state[keys.features] = features
        built: bars.BarState = state[keys.bars]
        outputs = self._close_grid(state, keys, features, event.available_at_ns)
        apply(features, event)
        finished = bars.apply(built, event, None if built.trades_seen else current_mid(features))
        state.touch(keys.each_event)
        return state, [*outputs, *finished] if outputs or finished else NO_EVENTS

    def _on_heartbeat(self, state: ShardState, heartbeat: Heartbeat) -> list[Event]:
        now_ns = heartbeat.available_at_ns
        outputs: list[Event] = []
        for keys in self._keys.values():
            features: FeatureState | None = state.get(keys.features)
            if features is None:
                continue
            built: bars.BarState = state[keys.bars]
            outputs += self._close_grid(state, keys, features, now_ns)
            outputs += bars.advance(built, now_ns)
            outputs.append(mark(features, self._config.features, now_ns))
            state.touch(keys.each_event)
        for key in HEARTBEAT_KEYS:
            outputs.append(
                Heartbeat(key=key, event_time_ns=heartbeat.event_time_ns, available_at_ns=now_ns, clock=heartbeat.clock)
            )
        return outputs

    def _close_grid(self, state: ShardState, keys: _Keys, features: FeatureState, now_ns: int) -> Sequence[Event]:
        """Return what a grid time that ``now_ns`` has reached makes of the state, or nothing."""
        if now_ns < features.grid_time_ns + keys.grid_ns:
            return NO_EVENTS
        grid_time_ns = due_grid_time(features, now_ns, keys.grid_ns)
        if grid_time_ns is None:
            return NO_EVENTS
        taken = snapshot(features, grid_time_ns, self._config.features)
        outputs: list[Event] = [taken]
        alerts: list[Event] = []
        for key, expert in keys.experts:
            remembered = state.get(key)
            if remembered is None:
                remembered = expert.initial()
            state[key], assessment = expert.assess(remembered, taken)
            outputs += _votes(taken, expert.name, assessment)
            if assessment.alert is not None:
                alerts.append(_alert(taken, assessment.alert))
        outputs += alerts
        outputs.append(mark(features, self._config.features, grid_time_ns, grid_time_ns))
        return outputs


def _votes(taken: FeatureSnapshot, expert: str, assessment: Assessment) -> list[Vote]:
    answering_ns = taken.deadline_ns - taken.grid_time_ns
    return [
        Vote(
            key=taken.key,
            event_time_ns=taken.event_time_ns,
            available_at_ns=taken.available_at_ns,
            ballot_id=question.ballot_id,
            expert=expert,
            horizon_ns=question.horizon_ns,
            expires_at_ns=taken.grid_time_ns + question.horizon_ns + answering_ns,
            p_down=opinion.p_down,
            p_flat=opinion.p_flat,
            p_up=opinion.p_up,
            abstained=opinion.abstained,
            evidence=opinion.evidence,
            context=opinion.context,
        )
        for question, opinion in zip(taken.questions, assessment.opinions, strict=True)
    ]


def _alert(taken: FeatureSnapshot, alert: Alert) -> AnomalyAlert:
    return AnomalyAlert(
        key=taken.key,
        event_time_ns=taken.event_time_ns,
        available_at_ns=taken.available_at_ns,
        level=alert.level,
        kind=alert.kind,
        score=alert.score,
        detail=alert.detail,
    )
