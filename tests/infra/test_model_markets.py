"""On which markets a model was trained, by what its spec says of its data."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_artefacts import small_spec

from infra.models.spec import MARKET_STEPS_MIN, DataRange, parsed_spec, spec_bytes


def of(*parts: tuple[str, int]) -> tuple[str, ...]:
    data = tuple(DataRange(source=source, begin="0 s", end="9 s", steps=steps) for source, steps in parts)
    return parsed_spec(spec_bytes(msgspec.structs.replace(small_spec(), data=data))).markets


@pytest.mark.parametrize(
    ("source", "instrument"),
    [
        ("SIM:BTCUSD, simulated, mixed, seed 101", "SIM:BTCUSD"),
        ("BINANCE_UM:BTC/USDT-240927", "BINANCE_UM:BTC/USDT-240927"),
        ("DERIV:frxEURUSD, 2 May", "DERIV:frxEURUSD"),
        ("SIM:BTCUSD and others", None),
        ("rl.experience since 0123", None),
        ("SIM mixed", None),
        (" SIM:BTCUSD", None),
        ("sim:BTCUSD", None),
        ("SIM:, mixed", None),
        ("like SIM:BTCUSD, mixed", None),
    ],
)
def test_the_instrument_is_what_a_source_begins_with(source: str, instrument: str | None) -> None:
    assert of((source, MARKET_STEPS_MIN)) == (() if instrument is None else (instrument,))


def test_what_was_only_met_is_no_market_that_it_was_trained_on() -> None:
    assert of(("A:A", MARKET_STEPS_MIN - 1), ("B:B", MARKET_STEPS_MIN)) == ("B:B",)
    assert of() == ()


@given(st.lists(st.tuples(st.sampled_from(["A:A", "B:B", "none"]), st.integers(0, 300)), max_size=8))
def test_the_steps_of_all_ranges_of_an_instrument_count_together(parts: list[tuple[str, int]]) -> None:
    steps = {name: sum(count for source, count in parts if source == name) for name in ("A:A", "B:B")}
    assert of(*parts) == tuple(name for name, count in steps.items() if count >= MARKET_STEPS_MIN)
