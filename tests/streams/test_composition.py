"""Settings taken apart: what is refused with one sentence, who may trade what, and with how much."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from infra.settings import SettingsError, load_settings
from streams.composition import STAGES, Run, budget, build_stage, compose, decider_config, limit_sets, traded

SETTINGS = Path(__file__).resolve().parents[2] / "tradermind.toml"


def composed(**overrides: Any) -> Run:
    dotted = {name.replace("__", "."): value for name, value in overrides.items()}
    return compose(load_settings(SETTINGS, dotted, environment={}))


def _strategy(run: Run, name: str) -> Any:
    return run.settings.strategies[name]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("limits.global.order_valu_max", 1, ("order_valu_max", "not a limit")),
        ("limits.global.drawdown_max", 3, ("drawdown_max", "fraction")),
        ("limits.account.main.mesages_max", 3, ("mesages_max", "not a limit")),
        ("strategies.committee.parameters", {"boldness": 2}, ("committee", "boldness")),
        ("strategies.pulse.parameters", {"every": 0}, ("pulse", "every 0")),
    ],
)
def test_what_no_stage_understands_is_one_sentence(key: str, value: object, words: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError) as refused:
        compose(load_settings(SETTINGS, {key: value}, environment={}))
    sentence = str(refused.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


def test_a_missing_limit_refuses_to_start(tmp_path: Path) -> None:
    text = SETTINGS.read_text()
    line = next(line for line in text.splitlines() if line.startswith("daily_loss_max"))
    copy = tmp_path / "without.toml"
    copy.write_text(text.replace(line + "\n", ""))
    with pytest.raises(SettingsError, match=r"daily_loss_max.*missing"):
        compose(load_settings(copy, environment={}))


def test_the_simulated_feed_has_its_own_instruments_and_those_of_others_beside_them() -> None:
    run = composed()
    assert not run.on_capture
    assert run.fed == {"SIM:BTCUSD", "SIM:ETHUSD"}
    assert set(run.instruments) == run.fed | {"EXT:DEMO"}
    assert list(run.instruments) == sorted(run.instruments)


def test_a_feed_may_be_narrowed_but_not_to_nothing() -> None:
    assert composed(feed__instruments=["SIM:ETHUSD"]).fed == {"SIM:ETHUSD"}
    with pytest.raises(SettingsError, match="none of the instruments"):
        composed(feed__instruments=["BINANCE:BTCUSDT"])


def test_a_star_is_all_that_has_a_feed_of_ours_and_a_name_may_be_more() -> None:
    run = composed()
    assert traded(run, _strategy(run, "committee")) == ("SIM:BTCUSD", "SIM:ETHUSD")
    run = composed(**{"strategies__committee__instruments": ["EXT:DEMO"]})
    assert traded(run, _strategy(run, "committee")) == ("EXT:DEMO",)


def test_what_the_account_cannot_value_is_not_traded() -> None:
    run = composed(**{"accounts__main__currency": "CHF"})
    assert traded(run, _strategy(run, "committee")) == ()
    run = composed(**{"accounts__main__currency": "CHF", "accounts__main__conversion_rates": {"USD": Decimal("0.9")}})
    assert traded(run, _strategy(run, "committee")) == ("SIM:BTCUSD", "SIM:ETHUSD")


def test_a_budget_is_capital_by_share_by_risk_budget() -> None:
    run = composed(**{"accounts__main__capital": 50_000})
    assert budget(run, _strategy(run, "committee")) == Decimal(50_000) * Decimal("0.8") * Decimal("0.05")
    assert budget(run, _strategy(run, "pulse")) == Decimal(50_000) * Decimal("0.2") * Decimal("0.25")


def test_an_accounts_limit_stands_in_place_of_the_global_one() -> None:
    limits = limit_sets(composed())["main"]
    assert limits.order_value_max == 10_000
    assert limits.permits("committee", "SIM:BTCUSD")
    assert not limits.permits("committee", "EXT:DEMO")
    assert not limits.permits("stranger", "SIM:BTCUSD")
    narrowed = limit_sets(composed(**{"limits__account__main__order_value_max": 5_000}))["main"]
    assert narrowed.order_value_max == 5_000
    assert narrowed.version != limits.version


def test_staleness_is_one_setting_for_marks_and_for_the_limits_on_them() -> None:
    limits = limit_sets(composed(staleness__mark_ms=1_234, staleness__market_ms=4_321))["main"]
    assert (limits.reference_age_max_ms, limits.data_age_max_ms) == (1_234, 4_321)


def test_every_stage_is_built_under_its_own_name() -> None:
    run = composed()
    for name in STAGES:
        assert build_stage(run, name).name.split(".")[0] == name
    with pytest.raises(KeyError):
        build_stage(run, "oracle")


def test_the_decider_reckons_with_the_budget_and_the_rates_that_risk_and_feedback_have() -> None:
    run = composed()
    (decider,) = (item for item in decider_config(run).strategies if item.name == "committee")
    assert decider.instruments == ("SIM:BTCUSD", "SIM:ETHUSD")
    assert decider.budget == budget(run, _strategy(run, "committee"))
    assert decider.conversion_rates == run.settings.accounts[decider.account].conversion_rates != {}
