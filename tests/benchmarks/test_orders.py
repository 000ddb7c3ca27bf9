"""What the order benchmark calls sustained: each order once, with one outcome, none refused, the record in time."""

from typing import Any

import pytest

from benchmarks.orders import lines_of, settings_of
from benchmarks.orders_load import Stretch
from benchmarks.orders_outcome import judge
from infra.settings import load_settings
from streams.composition import compose


def _row(number: int, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "decision_id": f"d{number}",
        "verdict": "APPROVED",
        "reasons": [],
        "order_id": f"o{number}",
        "status": "FILLED",
        "final": True,
        "deny_reasons": [],
    }
    return fields | changes


def _judged(rows: list[dict[str, Any]], drained_s: float | None = 0.5, sent: dict[str, list[int]] | None = None) -> Any:
    stretch = Stretch(10.0, {f"d{number}": number * 1_000_000 for number in range(4)}, 2.0, drained_s)
    if sent is None:
        sent = {str(row["order_id"]): [10_000_000] for row in rows}
    return judge(stretch, rows, sent)


def test_each_decision_one_order_is_sustained() -> None:
    result = _judged([_row(number) for number in range(4)])
    assert (result["sustained"], result["orders"], result["orders_per_s"]) == (True, 4, 2.0)
    assert (result["in_vain"], result["two_outcomes"], result["sent_twice"], result["refused"]) == (0, 0, 0, {})
    assert result["decision_to_request"]["max_ms"] == 10.0


def test_what_was_decided_in_vain_is_no_order_and_no_fault() -> None:
    result = _judged([_row(number) for number in range(3)])
    assert (result["sustained"], result["orders"], result["in_vain"]) == (True, 3, 1)


@pytest.mark.parametrize(
    "rows",
    [
        [_row(0), _row(1, verdict="DENIED", reasons=["DATA_STALE"], order_id="x", status=None, final=None)],
        [_row(0), _row(1, status="DENIED", deny_reasons=["RECONCILING"], order_id="x")],
        [_row(0), _row(1, final=False)],
        [_row(0), _row(1), _row(1, order_id="o9")],
    ],
)
def test_a_refused_open_or_doubled_order_is_not_sustained(rows: list[dict[str, Any]]) -> None:
    result = _judged(rows, sent={"o0": [1], "o1": [1], "o9": [1]})
    assert not result["sustained"]


def test_a_request_sent_twice_and_a_record_that_lags_are_seen() -> None:
    rows = [_row(number) for number in range(4)]
    doubled = _judged(rows, sent={row["order_id"]: [1, 2] for row in rows})
    assert (doubled["sent_twice"], doubled["sustained"]) == (4, False)
    assert not _judged(rows, drained_s=9.0)["sustained"]
    assert not _judged(rows, drained_s=None)["sustained"]


def test_its_settings_are_a_run_s_and_every_line_may_trade() -> None:
    run = compose(load_settings(None, settings_of(3)))
    for account, strategy, instrument in lines_of(3):
        assert run.settings.strategies[strategy].account == account
        assert instrument in run.instruments
