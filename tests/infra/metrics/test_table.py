"""The table of metrics is lawful by Prometheus' own rules, and its page tells what the table says."""

import re
from collections import Counter

import pytest

from infra.metrics.document import MADE, tables
from infra.metrics.metric import Kind, Metric
from infra.metrics.registry import Metrics, told_by
from infra.metrics.table import METRICS, SERIES, TABLE

_UNBOUNDED = {"order", "order_id", "account", "user", "person", "decision", "ballot", "event_id", "client_order_id"}
_FIXED_BY_USE = {"tradermind_fees_total"}


def test_the_page_is_fresh() -> None:
    page = MADE.page.read_text()
    assert page == MADE.put_into(page, tables()), "docs/metrics.md is stale: run `make metrics-page`"
    assert all(f"`{metric.name}`" in page for metric in TABLE)


def test_no_name_is_given_twice() -> None:
    assert [name for name, times in Counter(metric.name for metric in TABLE).items() if times > 1] == []
    assert len(METRICS) == len(TABLE)


@pytest.mark.parametrize("metric", TABLE, ids=lambda metric: metric.name)
def test_a_name_is_as_prometheus_asks_for(metric: Metric) -> None:
    assert re.fullmatch(r"tradermind_[a-z]+(_[a-z]+)*", metric.name)
    if metric.name not in _FIXED_BY_USE:
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert (metric.kind is Kind.HISTOGRAM) == bool(metric.bounds)
    assert list(metric.bounds) == sorted(metric.bounds)
    assert _UNBOUNDED.isdisjoint(metric.labels)
    assert metric.help.endswith(".")


def test_a_worker_tells_what_its_stages_tell() -> None:
    mine = {metric.name for metric in told_by(["risk"])}
    assert "tradermind_kill_switch_active" in mine
    assert "tradermind_events_consumed_total" in mine
    assert "tradermind_fills_total" not in mine


def test_nothing_is_global() -> None:
    one, other = Metrics("one", ["risk"]), Metrics("other", ["risk"])
    events = METRICS["tradermind_events_produced_total"]
    one.add(events, 3, "one", "a.topic")
    assert (events.name, {"worker": "one", "topic": "a.topic"}, 3.0) in list(one.samples())
    assert not any(name == events.name for name, _, _ in other.samples())


def test_a_total_goes_on_when_its_source_begins_anew() -> None:
    metrics = Metrics("one", ["risk"])
    events = METRICS["tradermind_events_produced_total"]
    for value in (5, 8, 2, 3):
        metrics.total(events, value, "one", "a.topic")
    assert [value for name, _, value in metrics.samples() if name == events.name] == [11.0]


def test_a_gauge_told_as_a_whole_forgets_what_is_gone() -> None:
    metrics = Metrics("one", ["decider"])
    policy = METRICS["tradermind_policy_in_force"]
    metrics.put_all(policy, {("s", "old", "CHAMPION"): 1.0})
    metrics.put_all(policy, {("s", "new", "CHAMPION"): 1.0})
    assert [labels["policy"] for name, labels, _ in metrics.samples() if name == policy.name] == ["new"]


def test_what_is_told_has_only_names_of_the_table() -> None:
    metrics = Metrics("one", ["execution"])
    metrics.observe(METRICS["tradermind_order_submit_seconds"], 0.003, "SIM")
    assert {name for name, _, _ in metrics.samples()} <= SERIES
    text, content_type = metrics.exposition()
    assert b'tradermind_order_submit_seconds_bucket{le="0.005",venue="SIM"} 1.0' in text
    assert content_type.startswith("text/plain")
