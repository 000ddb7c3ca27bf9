"""What other systems may say, and the reason each refusal is given."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from market_inputs import HORIZONS_NS, KEY, UNIT, beat, definition, ns

from agents.market.ingress import Ingress, IngressConfig
from agents.stage import ShardState, run_step
from schemas.dead_letters import BadRecord, DeadLetterReason
from schemas.event import Event
from schemas.feedback import OutcomeReported
from schemas.ingress import (
    IngestDepth,
    IngestOutcome,
    IngestQuote,
    IngestRequest,
    IngestTrade,
    IngestVote,
    IngressEnvelope,
    IngressRecord,
)
from schemas.market import BookSnapshot, DepthUpdate, InstrumentDefined, Quality, QualityKind, Quote, Trade
from schemas.opinions import AbstainReason, BallotRequest, Vote
from schemas.values import Side

FED = "BINANCE_USDM:BTCUSDT"
STAGE = Ingress(
    IngressConfig(
        instruments={KEY: definition(), FED: definition(FED)},
        native_experts=frozenset({"momentum", "order_flow"}),
        fed_instruments=frozenset({FED}),
    )
)


def _record(kind: type[IngressRecord], **changes: Any) -> IngressRecord:
    fields: dict[str, Any] = {"event_id": "theirs", "instrument": KEY, "event_time_ns": ns(1)}
    if kind is IngestTrade:
        fields |= {"trade_id": "7", "price": 100 * UNIT, "quantity": UNIT, "aggressor": Side.SELL}
    elif kind is IngestQuote:
        fields |= {"bid_price": 100 * UNIT, "bid_quantity": UNIT, "ask_price": 101 * UNIT, "ask_quantity": UNIT}
    elif kind is IngestVote:
        fields |= {"ballot_id": "b", "expert": "outsider", "horizon_ns": HORIZONS_NS[1], "expires_at_ns": ns(11)}
        fields |= {"p_down": 0.2, "p_flat": 0.3, "p_up": 0.5, "evidence": {"z": 1.5, "none": None}}
    elif kind is IngestRequest:
        fields |= {"request_id": "r", "strategy": "theirs", "horizon_ns": HORIZONS_NS[0]}
    elif kind is IngestOutcome:
        fields |= {"decision_id": "d", "kind": "pnl", "value": -1.5, "note": "n"}
    else:
        fields |= {"first_update_id": 5, "last_update_id": 5}
    return kind(**(fields | changes))


def _take(record: IngressRecord, state: ShardState | None = None, at: float = 1) -> list[Event]:
    envelope = IngressEnvelope(
        key=record.instrument,
        event_time_ns=record.event_time_ns,
        available_at_ns=ns(at),
        event_id=f"topic|{record.event_id}",
        record=record,
    )
    return list(run_step(STAGE, ShardState() if state is None else state, envelope)[1])


def test_market_records_become_trusted_events_behind_their_definition() -> None:
    state = ShardState()
    outputs = _take(_record(IngestTrade), state) + _take(_record(IngestQuote), state)
    assert [type(event) for event in outputs] == [InstrumentDefined, Trade, Quote]
    made = outputs[1]
    assert (made.key, made.price, made.quantity, made.aggressor) == (KEY, 100 * UNIT, UNIT, Side.SELL)
    assert made.available_at_ns == ns(1)
    assert outputs[2].ask_price == 101 * UNIT


def test_depth_is_held_to_the_same_sync_rules_as_a_feeds() -> None:
    state = ShardState()
    levels = {"bid_prices": (100,), "bid_quantities": (1,), "ask_prices": (101,), "ask_quantities": (1,)}
    outputs = _take(_record(IngestDepth, snapshot=True, **levels), state)
    outputs += _take(_record(IngestDepth, first_update_id=6, last_update_id=7, **levels), state)
    outputs += _take(_record(IngestDepth, first_update_id=9, last_update_id=9, **levels), state)
    kinds = [event.kind.value if isinstance(event, Quality) else type(event) for event in outputs[1:]]
    assert kinds == [BookSnapshot, "SYNCHRONISED", DepthUpdate, "GAP", "UNSYNCHRONISED", "SNAPSHOT_REQUESTED"]


def test_a_vote_becomes_a_vote() -> None:
    (vote,) = _take(_record(IngestVote, text_fed=True))
    assert isinstance(vote, Vote)
    assert (vote.key, vote.expert, vote.ballot_id, vote.horizon_ns) == (KEY, "outsider", "b", HORIZONS_NS[1])
    assert (vote.p_down, vote.p_flat, vote.p_up, vote.abstained) == (0.2, 0.3, 0.5, None)
    assert vote.text_fed
    assert vote.evidence == {"z": 1.5, "none": None}
    assert (vote.event_time_ns, vote.available_at_ns, vote.expires_at_ns) == (ns(1), ns(1), ns(11))


def test_a_vote_without_probabilities_is_an_abstention() -> None:
    (vote,) = _take(_record(IngestVote, p_down=None, p_flat=None, p_up=None))
    assert vote.abstained is AbstainReason.NO_EDGE


def test_a_request_and_an_outcome_pass() -> None:
    (request,) = _take(_record(IngestRequest))
    assert isinstance(request, BallotRequest)
    assert (request.request_id, request.strategy, request.horizon_ns) == ("r", "theirs", HORIZONS_NS[0])
    (outcome,) = _take(_record(IngestOutcome))
    assert isinstance(outcome, OutcomeReported)
    assert (outcome.decision_id, outcome.kind, outcome.value, outcome.note) == ("d", "pnl", -1.5, "n")


REFUSED = [
    (_record(IngestTrade, price=-1), DeadLetterReason.INVALID_VALUE),
    (_record(IngestTrade, price=0), DeadLetterReason.INVALID_VALUE),
    (_record(IngestTrade, quantity=-1), DeadLetterReason.INVALID_VALUE),
    (_record(IngestQuote, bid_price=-1), DeadLetterReason.INVALID_VALUE),
    (_record(IngestDepth, bid_prices=(1, 2), bid_quantities=(1,)), DeadLetterReason.INVALID_VALUE),
    (_record(IngestDepth, first_update_id=6), DeadLetterReason.INVALID_VALUE),
    (_record(IngestDepth, snapshot=True, bid_prices=(1, 2), bid_quantities=(1, 1)), DeadLetterReason.INVALID_VALUE),
    (_record(IngestTrade, instrument="X:Y"), DeadLetterReason.INSTRUMENT_REFUSED),
    (_record(IngestTrade, instrument=FED), DeadLetterReason.INSTRUMENT_REFUSED),
    (_record(IngestTrade, event_time_ns=ns(6.001)), DeadLetterReason.FUTURE_TIME),
    (_record(IngestVote, event_time_ns=ns(60)), DeadLetterReason.FUTURE_TIME),
    (_record(IngestVote, expert="momentum"), DeadLetterReason.NAME_CLAIMED),
    (_record(IngestVote, expert="Order_Flow"), DeadLetterReason.NAME_CLAIMED),
    (_record(IngestVote, expert="m\u043ementum"), DeadLetterReason.INVALID_VALUE),
    (_record(IngestVote, expert="momentum "), DeadLetterReason.INVALID_VALUE),
    (_record(IngestVote, horizon_ns=HORIZONS_NS[0] + 1), DeadLetterReason.INVALID_VALUE),
    (_record(IngestVote, expires_at_ns=ns(302)), DeadLetterReason.INVALID_VALUE),
    (_record(IngestVote, p_up=0.50001), DeadLetterReason.INVALID_VALUE),
    (_record(IngestVote, p_up=None), DeadLetterReason.INVALID_VALUE),
    (_record(IngestVote, p_down=-0.1, p_up=0.8), DeadLetterReason.INVALID_VALUE),
    (_record(IngestVote, p_up=math.nan), DeadLetterReason.NOT_FINITE),
    (_record(IngestVote, evidence={"z": math.inf}), DeadLetterReason.NOT_FINITE),
    (_record(IngestVote, evidence={str(k): 1.0 for k in range(65)}), DeadLetterReason.INVALID_VALUE),
    (_record(IngestRequest, horizon_ns=1), DeadLetterReason.INVALID_VALUE),
    (_record(IngestRequest, strategy="a\nb"), DeadLetterReason.INVALID_VALUE),
    (_record(IngestOutcome, value=math.inf), DeadLetterReason.NOT_FINITE),
    (IngressRecord(event_id="e", instrument=KEY, event_time_ns=ns(1)), DeadLetterReason.TYPE_UNEXPECTED),
]


@pytest.mark.parametrize(("record", "reason"), REFUSED, ids=[f"{i}-{r.value}" for i, (_, r) in enumerate(REFUSED)])
def test_a_bad_record_is_refused_with_its_reason_and_changes_nothing(
    record: IngressRecord, reason: DeadLetterReason
) -> None:
    state = ShardState()
    with pytest.raises(BadRecord) as refused:
        _take(record, state)
    assert refused.value.reason is reason
    assert refused.value.detail
    assert not state
    assert not state.touched


def test_a_record_that_is_no_envelope_is_refused() -> None:
    with pytest.raises(BadRecord) as refused:
        STAGE.step(ShardState(), Quote(key=KEY, event_time_ns=1, available_at_ns=1, **dict.fromkeys(_SIDES)))
    assert refused.value.reason is DeadLetterReason.TYPE_UNEXPECTED


_SIDES = ("bid_price", "bid_quantity", "ask_price", "ask_quantity")


@given(st.floats(0, 1), st.floats(0, 1), st.floats(-3e-6, 3e-6))
def test_probabilities_count_as_summing_to_one_within_a_millionth(p_down: float, share: float, off: float) -> None:
    p_flat = (1 - p_down) * share
    p_up = min(max(1 - p_down - p_flat + off, 0.0), 1.0)
    record = _record(IngestVote, p_down=p_down, p_flat=p_flat, p_up=p_up)
    total = math.fsum((p_down, p_flat, p_up))
    if abs(total - 1) <= 1e-6:
        assert _take(record)
    else:
        with pytest.raises(BadRecord):
            _take(record)


def test_the_writers_lag_is_no_reason_to_refuse_who_is_on_time() -> None:
    state = ShardState()
    for number in range(50):
        _take(_record(IngestTrade, event_time_ns=ns(1), trade_id=f"late-{number}"), state, at=60 + number)
    on_time = _take(_record(IngestTrade, event_time_ns=ns(111), trade_id="now"), state, at=110)
    assert [type(event) for event in on_time] == [Trade]


def test_time_alone_reports_what_was_gathered_and_is_not_passed_on() -> None:
    state = ShardState()
    for _ in range(3):
        _take(_record(IngestTrade), state)
    _, outputs = STAGE.step(state, beat(10))
    assert [(event.kind, event.count) for event in outputs if isinstance(event, Quality)] == [(QualityKind.REFUSED, 1)]
    assert len(outputs) == 1
    assert STAGE.step(state, beat(11))[1] == []
