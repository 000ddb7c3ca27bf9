"""Identity is a function of the cause, and of nothing else."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.stage import ShardState, run_step
from schemas.event import Event, Heartbeat, derive_id
from schemas.values import MONEY_QUANTUM, Side, money, notional, to_decimal, units


class _Echo:
    name = "echo"

    def state_type(self, key: str) -> type:
        return int

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, list[Event]]:
        state["count"] = state.get("count", 0) + 1
        return state, [Heartbeat(key="a", event_time_ns=1, available_at_ns=1) for _ in range(2)]


def test_outputs_get_ids_from_their_cause() -> None:
    cause = Heartbeat(key="a", event_time_ns=1, available_at_ns=1, event_id="c" * 32)
    state, first = run_step(_Echo(), ShardState(), cause)
    _, second = run_step(_Echo(), ShardState(), cause)
    assert [event.event_id for event in first] == [event.event_id for event in second]
    assert len({event.event_id for event in first}) == 2
    assert all(event.cause_id == cause.event_id for event in first)
    assert state.touched == {"count"}


class _PerInstrument:
    name = "per-instrument"

    def __init__(self, *instruments: str) -> None:
        self.instruments = instruments

    def state_type(self, key: str) -> type:
        return int

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, list[Event]]:
        keys = [key for key in self.instruments for _ in range(2)]
        return state, [Heartbeat(key=key, event_time_ns=1, available_at_ns=1) for key in keys]


def test_what_follows_from_a_heartbeat_has_the_same_ids_however_instruments_are_spread() -> None:
    """One Heartbeat reaches every shard; two instruments must never get one id, nor one instrument two."""
    beat = Heartbeat(key="market.event", event_time_ns=1, available_at_ns=1, event_id="c" * 32)
    _, together = run_step(_PerInstrument("A:B", "C:D"), ShardState(), beat)
    _, first = run_step(_PerInstrument("A:B"), ShardState(), beat)
    _, second = run_step(_PerInstrument("C:D"), ShardState(), beat)
    assert [event.event_id for event in together] == [event.event_id for event in (*first, *second)]
    assert len({event.event_id for event in together}) == 4
    assert {event.cause_id for event in together} == {beat.event_id}


def test_restored_and_deleted_keys_of_a_shard() -> None:
    state = ShardState()
    state.restore("a", 1)
    assert state.touched == set()
    del state["a"]
    assert state.touched == {"a"}


@given(st.text(), st.text(min_size=1), st.integers(0, 1000))
def test_ids_are_32_hex_digits(cause: str, stage: str, ordinal: int) -> None:
    assert len(bytes.fromhex(derive_id(cause, stage, ordinal))) == 16


@given(st.integers(-(2**63), 2**63 - 1))
def test_units_and_decimals_are_inverse(value: int) -> None:
    assert units(to_decimal(value)) == value


@pytest.mark.parametrize("value", ["0.000000001", "92233720368.54775808"])
def test_what_does_not_fit_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="multiple of 1e-8"):
        units(value)


def test_money_is_exact() -> None:
    assert notional(units("61837.63"), -units("0.02")) == Decimal("-1236.7526")
    assert notional(2**62, 2**62) == Decimal(f"{2**124}e-16")
    assert money("1.5").as_tuple().exponent == MONEY_QUANTUM.as_tuple().exponent
    assert (Side.BUY.sign, Side.SELL.sign) == (1, -1)
