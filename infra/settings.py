"""The settings of a run: one object that the composition root takes apart, and one hash that names it.

A checkpoint names the hash, so that a worker with other settings notices. Only what can change a stage's output
is in it: the same run with another directory, port or broker address is the same run.
"""

import difflib
import hashlib
import os
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Final, Self

import msgspec
from pydantic import Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import ErrorDetails

from infra.settings_audit import AuditSettings
from infra.settings_backup import BackupSettings
from infra.settings_costs import CostTables
from infra.settings_limits import LimitSettings
from infra.settings_metrics import MetricsSettings
from infra.settings_models import ModelSettings
from infra.settings_people import PeopleSettings
from infra.settings_registry import RegistrySettings
from infra.settings_sections import (
    AccountSettings,
    FeedSettings,
    GridSettings,
    InfluxSettings,
    InstrumentSettings,
    KafkaSettings,
    PostgresSettings,
    RunSettings,
    Section,
    SimSettings,
    StalenessSettings,
    VenueSettings,
)
from infra.settings_sources import (
    KeyPath,
    Layers,
    SettingsError,
    environment_values,
    override_path,
    read_toml,
    refuse_secrets,
    spelled_as_known,
)
from infra.settings_strategies import StrategySettings
from infra.settings_trainer import SCHEDULE, TrainerSettings
from infra.settings_venues import BinanceSettings, VenuesSettings
from schemas.market import InstrumentDefined

__all__ = ["DEFAULT_FILE", "Settings", "SettingsError", "load_settings"]

DEFAULT_FILE: Final = Path("tradermind.toml")
_NAMED_TABLES: Final = ("accounts", "strategies", "instruments")
_NOT_HASHED: Final[frozenset[KeyPath]] = frozenset(
    {
        ("run", "directory"),
        ("run", "snapshot_interval_s"),
        *(
            ("kafka", name)
            for name in KafkaSettings.model_fields
            if name not in ("instrument_partitions", "cloudevents")
        ),
        ("registry",),
        ("postgres",),
        ("influx",),
        ("metrics",),
        ("audit",),
        ("backup",),
        ("people",),
        ("models", "directory"),
        ("models", "allowed_keys_file"),
        *(("models", f"gate_{name}") for name in ("decisions_min", "level", "differing_max")),
        ("feed", "paths"),
        ("feed", "speed"),
        ("feed", "websocket_url"),
        ("feed", "rest_url"),
        ("venue", "url"),
        *(("trainer", name) for name in TrainerSettings.model_fields if name not in SCHEDULE),
        *(("venues", "binance", name) for name in BinanceSettings.model_fields if name != "profile"),
    }
)
"""What no stage's output depends on. Everything else is hashed, so a new key counts until it is listed here."""


class Settings(Section):
    """All settings of a run, validated, including that names refer to something."""

    run: RunSettings = RunSettings()
    kafka: KafkaSettings = KafkaSettings()
    registry: RegistrySettings = RegistrySettings()
    postgres: PostgresSettings = PostgresSettings()
    influx: InfluxSettings = InfluxSettings()
    metrics: MetricsSettings = MetricsSettings()
    audit: AuditSettings = AuditSettings()
    backup: BackupSettings = BackupSettings()
    people: PeopleSettings = PeopleSettings()
    models: ModelSettings = ModelSettings()
    trainer: TrainerSettings = TrainerSettings()
    feed: FeedSettings = FeedSettings()
    venue: VenueSettings = VenueSettings()
    venues: VenuesSettings = VenuesSettings()
    grid: GridSettings = GridSettings()
    staleness: StalenessSettings = StalenessSettings()
    sim: SimSettings = SimSettings()
    accounts: dict[str, AccountSettings] = Field(min_length=1)
    strategies: dict[str, StrategySettings] = Field(min_length=1)
    instruments: dict[str, InstrumentSettings] = Field(min_length=1)
    limits: LimitSettings = LimitSettings()
    costs: CostTables = {}
    _origins: dict[KeyPath, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _complete_named_tables(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        completed = dict(values)
        grid = values.get("grid", {})
        for table in _NAMED_TABLES:
            if isinstance(entries := completed.get(table), Mapping):
                completed[table] = {name: _with_name(name, entry) for name, entry in entries.items()}
        if isinstance(entries := completed.get("instruments"), Mapping) and isinstance(grid, Mapping):
            standard = GridSettings()
            asked = {
                "grid_ms": grid.get("step_ms", standard.step_ms),
                "horizons_s": grid.get("horizons_s", standard.horizons_s),
            }
            completed["instruments"] = {
                name: {**asked, **entry} if isinstance(entry, Mapping) else entry for name, entry in entries.items()
            }
        return completed

    @model_validator(mode="after")
    def _refers(self) -> Self:
        for name, strategy in self.strategies.items():
            _known(f"strategies.{name}.account", strategy.account, self.accounts)
            for instrument in strategy.instruments:
                if instrument != "*":
                    _known(f"strategies.{name}.instruments", instrument, self.instruments)
        for place, named, names in (
            ("feed.instruments", self.feed.instruments, self.instruments),
            ("costs", self.costs, self.instruments),
            ("limits.account", self.limits.account, self.accounts),
            ("limits.instrument", self.limits.instrument, self.instruments),
            ("limits.strategy", self.limits.strategy, {"*": None, **self.strategies}),
        ):
            for name in named:
                _known(place, name, names)
        if (self.feed.kind == "capture") != (self.run.clock == "capture"):
            raise ValueError("run.clock must be 'capture' for feed.kind 'capture', and 'wall' for any other feed")
        for name in self.accounts:
            shares = sum(strategy.share for strategy in self.strategies.values() if strategy.account == name)
            if shares > 1:
                raise ValueError(f"strategies of account {name}: their shares sum to {shares}, more than 1")
        return self

    @model_validator(mode="after")
    def _closes_after_arrival(self) -> Self:
        # Whoever takes over gives an order up after the wait: by then no venue may take a stalled request any more.
        windows = (
            ("venue", "receive_window_ms", self.venue),
            ("venues.binance", "recv_window_ms", self.venues.binance),
        )
        for place, window, venue in windows:
            if venue is not None and venue.arrives_within_ms >= self.venue.takeover_wait_ms:
                raise ValueError(
                    f"{place}: a request might arrive for {venue.arrives_within_ms} ms ({window} and clock_skew_max_ms)"
                    f", which must be less than venue.takeover_wait_ms ({self.venue.takeover_wait_ms})"
                )
        return self

    def instrument_events(self, at_ns: int = 0) -> dict[str, InstrumentDefined]:
        """Return name -> definition of every instrument."""
        return {name: instrument.to_event(at_ns) for name, instrument in self.instruments.items()}

    def settings_hash(self) -> str:
        """Return 64 hex digits that change when, and only when, a stage's output may change."""
        hashed = _hashed(self.model_dump(by_alias=True), ())
        return hashlib.sha256(msgspec.json.encode(hashed, order="deterministic")).hexdigest()

    def describe(self) -> list[dict[str, Any]]:
        """Return every setting as {key, value, origin}, for ``config show``. No value is a secret."""
        return [
            {"key": ".".join(path), "value": _plain(value), "origin": self._origin(path)}
            for path, value in _flat(self.model_dump(by_alias=True), ())
        ]

    def _origin(self, path: KeyPath) -> str:
        for length in range(len(path), 0, -1):
            if path[:length] in self._origins:
                return self._origins[path[:length]]
        return "default"


def load_settings(
    path: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings of ``path`` (``tradermind.toml`` here, by default), the environment and ``overrides``.

    The later wins. A key of ``overrides`` may be dotted (``kafka.bootstrap``); a value may be a table. Raises
    SettingsError with one sentence that names the key.
    """
    file = path if path is not None else DEFAULT_FILE
    layers = Layers()
    layers.merge(read_toml(file), str(file))
    for variable, written, value in environment_values(os.environ if environment is None else environment):
        layers.put(spelled_as_known(written, layers.values), value, f"environment {variable}")
    for key, value in (overrides or {}).items():
        layers.merge(_nested(override_path(key), value), "command line")
    refuse_secrets(layers, os.environ if environment is None else environment)
    try:
        settings = Settings.model_validate(layers.values)
    except ValidationError as error:
        raise SettingsError(_sentence(error.errors(), layers)) from error
    settings._origins.update(layers.origins)
    return settings


def _with_name(name: str, entry: Any) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    if "name" in entry:
        raise ValueError(f"{name}.name: the name of a table is its key, not a value in it")
    return {"name": name, **entry}


def _nested(path: KeyPath, value: Any) -> dict[str, Any]:
    return {path[0]: _nested(path[1:], value) if len(path) > 1 else value}


def _known(key: str, name: str, names: Mapping[str, Any]) -> None:
    if name not in names:
        raise ValueError(f"{key}: {name} is not among {', '.join(sorted(names))}")


def _hashed(value: Any, path: KeyPath) -> Any:
    if isinstance(value, dict):
        kept = {name: inner for name, inner in value.items() if (*path, str(name)) not in _NOT_HASHED}
        return {str(name): _hashed(inner, (*path, str(name))) for name, inner in kept.items()}
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _flat(value: dict[str, Any], path: KeyPath) -> list[tuple[KeyPath, Any]]:
    flat: list[tuple[KeyPath, Any]] = []
    for name, inner in value.items():
        here = (*path, str(name))
        flat.extend(_flat(inner, here) if isinstance(inner, dict) and inner else [(here, inner)])
    return flat


def _sentence(errors: list[ErrorDetails], layers: Layers) -> str:
    error = errors[0]
    path = tuple(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{'.'.join(path)} is missing."
    if error["type"] == "extra_forbidden":
        return f"{'.'.join(path)} is not a setting{layers.whence(path)}{_nearest(path[-1])}."
    found = layers.existing(path)
    same = [other for other in errors if layers.existing(tuple(map(str, other["loc"]))) == found]
    reason = ", or ".join(dict.fromkeys(_reason(other) for other in same))
    if error["type"] == "value_error":
        return f"{'.'.join(found)}{': ' if found else ''}{reason}{layers.whence(path)}."
    return f"{'.'.join(found) or 'settings'}: {reason}, not {_shown(error['input'])}{layers.whence(path)}."


def _reason(error: ErrorDetails) -> str:
    message = error["msg"].removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def _shown(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str | Decimal) else f"{value!r}"[:60]


def _nearest(name: str) -> str:
    fields = [item for section in Section.__subclasses__() for item in section.model_fields.items()]
    near = difflib.get_close_matches(name, {field.alias or key for key, field in fields}, 1)
    return f" (did you mean {near[0]}?)" if near else ""
