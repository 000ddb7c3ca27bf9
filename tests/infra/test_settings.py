"""Settings: what is loaded from where, what is refused in which words, and what the hash stands for."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.limits.limit_set import LimitSet
from infra.settings import Settings, SettingsError, load_settings
from infra.settings_sections import InstrumentSettings
from schemas.market import Session

DEFAULTS = Path(__file__).resolve().parents[2] / "tradermind.toml"


def load(overrides: dict[str, Any] | None = None, environment: dict[str, str] | None = None) -> Settings:
    return load_settings(DEFAULTS, overrides, environment or {})


def refusal(overrides: dict[str, Any] | None = None, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(overrides, environment)
    return str(caught.value)


def test_the_committed_file_loads_and_defines_the_known_instruments() -> None:
    settings = load()
    assert set(settings.instruments) >= {
        "SIM:BTCUSD",
        "SIM:ETHUSD",
        "BINANCE:BTCUSDT",
        "BINANCE_USDM:BTCUSDT",
        "LEAN:BAC",
        "FXCM:EURUSD",
    }
    assert not settings.instruments["SIM:ETHUSD"].shortable
    assert settings.accounts["main"].capital == 100_000


def test_an_instrument_becomes_its_event_in_integer_units() -> None:
    event = load().instruments["BINANCE_USDM:BTCUSDT"].to_event(at_ns=5)
    assert (event.key, event.venue, event.symbol) == ("BINANCE_USDM:BTCUSDT", "BINANCE_USDM", "BTCUSDT")
    assert (event.tick_size, event.lot_size) == (10_000_000, 100_000)
    assert event.taker_fee_rate == Decimal("0.0005")
    assert (event.grid_ns, event.horizons_ns) == (10**9, (10**9, 10 * 10**9, 60 * 10**9))
    assert (event.event_time_ns, event.available_at_ns, event.event_id) == (5, 5, "")
    assert load().instruments["LEAN:BAC"].to_event().session is Session.US_EQUITY


def test_the_grid_applies_to_every_instrument_that_has_none_of_its_own() -> None:
    settings = load({"grid.step_ms": 500, "instruments.SIM:BTCUSD.horizons_s": [2, 4]})
    events = settings.instrument_events()
    assert events["SIM:BTCUSD"].grid_ns == 500_000_000
    assert events["SIM:BTCUSD"].horizons_ns == (2 * 10**9, 4 * 10**9)
    assert events["SIM:ETHUSD"].horizons_ns == (10**9, 10 * 10**9, 60 * 10**9)


def test_the_environment_wins_over_the_file_and_the_command_line_over_both() -> None:
    environment = {
        "TRADERMIND__RUN__SEED": "7",
        "TRADERMIND__INSTRUMENTS__BINANCE_BTCUSDT__TICK_SIZE": "0.1",
        "TRADERMIND__GRID__HORIZONS_S": "[5, 30]",
        "TRADERMIND__FEED__SPEED": "max",
    }
    settings = load({"run.seed": 9}, environment)
    assert settings.run.seed == 9
    assert settings.instruments["BINANCE:BTCUSDT"].tick_size == Decimal("0.1")
    assert settings.grid.horizons_s == (5, 30)
    assert settings.feed.speed == "max"
    origins = {row["key"]: row["origin"] for row in settings.describe()}
    assert origins["run.seed"] == "command line"
    assert origins["feed.speed"] == "environment TRADERMIND__FEED__SPEED"
    assert origins["run.clock"].endswith("tradermind.toml")
    assert origins["influx.bucket"] == "default"


def test_fractions_in_the_file_are_exact() -> None:
    assert load().instruments["FXCM:EURUSD"].tick_size == Decimal("0.00001")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"run.sed": 3}, "run.sed is not a setting (from command line) (did you mean seed?)."),
        ({"limits": {"globl": {"a": 1}}}, "limits.globl is not a setting (did you mean global?)."),
        ({"run.seed": True}, "run.seed: must be a number, not true or false (from command line)."),
        ({"run.seed": "x"}, "run.seed: input should be a valid integer"),
        ({"feed.speed": "fast"}, "or input should be 'max', not 'fast'"),
        ({"feed.speed": 0}, "feed.speed: input should be greater than 0"),
        ({"accounts.main.capital": "-1"}, "accounts.main.capital: input should be greater than 0, not '-1'"),
        ({"accounts.main.name": "b"}, "the name of a table is its key"),
        ({"accounts": 5}, "accounts: input should be a valid dictionary, not 5"),
        ({"limits.global.order_value": "nan"}, "limits.global.order_value: input should be a finite number"),
        ({"limits.global.order_value": "-1"}, "limits.global.order_value: input should be greater than 0"),
        ({"limits.account.other.loss": 1}, "limits.account: other is not among main"),
        ({"limits.strategy.committee.loss": 1}, "limits.strategy.committee.loss is not a setting"),
        ({"limits.strategy.other.loss_max": 1}, "limits.strategy: other is not among *, committee, pulse"),
        ({"limits.instrument.SIM:BTCUSD.loss": 1}, "limits.instrument.SIM:BTCUSD.loss is not a setting"),
        ({"strategies.committee.account": "x"}, "strategies.committee.account: x is not among main"),
        ({"strategies.committee.instruments": ["SIM:XRPUSD"]}, "strategies.committee.instruments: SIM:XRPUSD is not"),
        ({"strategies.b": {"account": "main", "risk_budget": 1, "share": "0.1"}}, "sum to 1.1, more than 1"),
        ({"strategies.b": {"account": "main"}}, "strategies.b.risk_budget is missing."),
        ({"strategies.committee.take_profit": "0.1"}, "take_profit and stop_limit need stop_loss"),
        ({"strategies.committee.stop_loss": "1"}, "strategies.committee.stop_loss: input should be less than 1"),
        ({"strategies.committee.stop_loss": 0}, "strategies.committee.stop_loss: input should be greater than 0"),
        (
            {"strategies.committee.order_type": "MARKET", "strategies.committee.time_in_force": "POST_ONLY"},
            "its time_in_force is IOC",
        ),
        ({"strategies.committee.order_type": "STOP"}, "strategies.committee.order_type"),
        ({"postgres.dsn": "postgresql://u:pw@h/x"}, "must not hold a password"),
        ({"postgres.dsn": "this is no dsn"}, "not a connection string"),
        ({"influx.url": "http://h"}, "influx: url needs token_file"),
        ({"feed.kind": "capture"}, "feed: kind 'capture' needs paths"),
        ({"feed.kind": "capture", "feed.paths": ["x"]}, "run.clock must be 'capture'"),
        ({"kafka.security_protocol": "SASL_SSL"}, "needs sasl_username"),
        ({"instruments.SIM:BTCUSD.tick_size": "0.000000001"}, "not a multiple of 1e-8"),
        ({"instruments.SIM:BTCUSD.quantity_max": "0.00000001"}, "quantity_max is below quantity_min"),
        ({"instruments.SIM:BTCUSD.horizons_s": [10, 1]}, "horizons_s must rise"),
        ({"instruments.SIM:BTCUSD.funding_interval_s": 0}, "funding_rate needs funding_interval_s"),
        ({"grid.step_ms": "x"}, "grid.step_ms: input should be a valid integer"),
        ({"run.seed.deeper": 1}, "seed is a value, not a table"),
    ],
)
def test_each_bad_setting_is_one_sentence_that_names_the_key(overrides: dict[str, Any], expected: str) -> None:
    sentence = refusal(overrides)
    assert expected in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")


def test_a_password_never_shows_in_the_refusal() -> None:
    assert "hunter2" not in refusal({"postgres.dsn": "postgresql://u:hunter2@h/x"})


def test_an_unknown_environment_key_is_refused_and_named() -> None:
    assert "run.sede is not a setting (from environment TRADERMIND__RUN__SEDE)" in refusal(
        environment={"TRADERMIND__RUN__SEDE": "1"}
    )
    assert "TRADERMIND__RUN does not name" in refusal(environment={"TRADERMIND__RUN": "1"})
    assert "not a valid TOML value" in refusal(environment={"TRADERMIND__GRID__HORIZONS_S": "[1,"})


def test_an_ambiguous_environment_name_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "two.toml"
    file.write_text(DEFAULTS.read_text() + '\n[accounts."a.b"]\ncapital = 1\n[accounts.a_b]\ncapital = 1\n')
    with pytest.raises(SettingsError, match=r"a_b could mean a\.b or a_b"):
        load_settings(file, {}, {"TRADERMIND__ACCOUNTS__A_B__CAPITAL": "5"})


def test_a_file_that_is_missing_or_broken_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load_settings(tmp_path / "none.toml", {}, {})
    broken = tmp_path / "broken.toml"
    broken.write_text("[run\n")
    with pytest.raises(SettingsError, match="is not valid TOML"):
        load_settings(broken, {}, {})


def test_secrets_come_from_files_and_are_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    settings = load({"postgres.dsn": "postgresql://u@h:5432/x", "postgres.password_file": str(secret)})
    conninfo = settings.postgres.conninfo()
    assert conninfo is not None and "password=hunter2" in conninfo
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings.describe())
    assert load().postgres.conninfo() is None


@pytest.mark.parametrize(
    "overrides",
    [
        {"run.directory": "elsewhere"},
        {"kafka.bootstrap": "h:1"},
        {"postgres.dsn": "host=h"},
        {"influx.directory": "points"},
        {"feed.speed": "max"},
        {"venue.url": "http://127.0.0.1:1"},
        {"accounts.main.capital": "100000.00"},
    ],
)
def test_the_hash_ignores_where_things_are(overrides: dict[str, Any]) -> None:
    assert load(overrides).settings_hash() == load().settings_hash()


@pytest.mark.parametrize(
    "overrides",
    [
        {"run.seed": 2},
        {"kafka.instrument_partitions": 5},
        {"limits.global.order_value": 1},
        {"strategies.committee.policy": "probe"},
        {"instruments.SIM:BTCUSD.tick_size": "0.2"},
        {"grid.step_ms": 500},
        {"staleness.market_ms": 1},
        {"accounts.main.capital": "100000.01"},
    ],
)
def test_the_hash_changes_with_what_a_stage_does(overrides: dict[str, Any]) -> None:
    assert load(overrides).settings_hash() != load().settings_hash()


@given(st.decimals(min_value="0.00000001", max_value="10000", places=8))
def test_every_increment_of_eight_places_survives_as_units(tick: Decimal) -> None:
    instrument = InstrumentSettings.model_validate(
        {
            **load().instruments["SIM:BTCUSD"].model_dump(),
            "tick_size": tick,
        }
    )
    assert Decimal(instrument.to_event().tick_size) == tick * 10**8


def test_the_limits_of_the_committed_file_are_ones_that_the_checks_know() -> None:
    settings = load()
    account = settings.accounts["main"]
    numbers = {name: int(value) if value == int(value) else value for name, value in settings.limits.global_.items()}
    limits = LimitSet.from_mapping(
        {**numbers, "currency": account.currency, "capital": account.capital, "permissions": {"committee": ["*"]}}
    )
    assert limits.price_collar == Decimal("0.02")
    assert limits.messages_max == 50


@pytest.mark.parametrize(
    ("overrides", "is_sound"),
    [
        ({}, True),
        ({"venue.receive_window_ms": 3_999}, True),
        ({"venue.receive_window_ms": 4_000}, False),
        ({"venue.clock_skew_max_ms": 3_000}, False),
        ({"venue.takeover_wait_ms": 3_000}, False),
    ],
)
def test_a_venue_stops_taking_a_request_before_its_order_is_given_up(overrides: dict[str, Any], is_sound: bool) -> None:
    if is_sound:
        assert load(overrides).venue.arrives_within_ms < load(overrides).venue.takeover_wait_ms
    else:
        with pytest.raises(SettingsError, match=r"which must be less than venue.takeover_wait_ms"):
            load(overrides)


def test_settings_are_frozen() -> None:
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.run.seed = 5  # type: ignore[misc]
