"""What stands in for Grafana's macros: each as Grafana documents it, and nothing that is not known."""

import pytest

from infra.dashboards.macros import Span, UnknownMacro, expanded
from infra.dashboards.queries import Source

SPAN = Span(1_700_000_000.0, 1_700_003_600.0, 15.0)
CHOICES = {"instrument": ["SIM:BTCUSD", "O'NEIL:A.B"], "symbol": ["BTCUSD"], "strategy": ["a", "b"]}
CASES = [
    (Source.PROMETHEUS, "rate(x[$__rate_interval])", "rate(x[60000ms])"),
    (Source.PROMETHEUS, "x[$__interval] $__range $__range_s", "x[15s] 3600s 3600"),
    (Source.PROMETHEUS, 'x{i=~"$instrument"}', 'x{i=~"(SIM:BTCUSD|O\'NEIL:A\\\\.B)"}'),
    (Source.PROMETHEUS, 'x{i=~"$symbol"}', 'x{i=~"BTCUSD"}'),
    (Source.POSTGRES, "i IN ($instrument)", "i IN ('SIM:BTCUSD','O''NEIL:A.B')"),
    (Source.POSTGRES, "i IN (${strategy})", "i IN ('a','b')"),
    (
        *(Source.POSTGRES, "$__timeFilter(time)"),
        "time BETWEEN '2023-11-14T22:13:20.000Z' AND '2023-11-14T23:13:20.000Z'",
    ),
    (
        *(Source.POSTGRES, "$__unixEpochNanoFilter(s.at_ns)"),
        "s.at_ns >= 1700000000000000000 AND s.at_ns <= 1700003600000000000",
    ),
    (Source.POSTGRES, "$__timeGroupAlias(time, $__interval)", 'floor(extract(epoch from time)/15)*15 AS "time"'),
    (Source.POSTGRES, "$__timeGroup(time, '2m')", "floor(extract(epoch from time)/120)*120"),
    (Source.POSTGRES, "$__timeGroup(time, $__interval) AS t", "floor(extract(epoch from time)/15)*15 AS t"),
    (
        *(Source.INFLUX, 'WHERE "symbol" =~ /^$symbol$/ AND $timeFilter GROUP BY time($__interval)'),
        'WHERE "symbol" =~ /^BTCUSD$/ AND time >= 1700000000000ms and time <= 1700003600000ms GROUP BY time(15s)',
    ),
    (Source.INFLUX, "/^$instrument$/", "/^(SIM:BTCUSD|O'NEIL:A\\.B)$/"),
]


@pytest.mark.parametrize(("source", "text", "wanted"), CASES)
def test_each_macro_becomes_what_grafana_makes_of_it(source: Source, text: str, wanted: str) -> None:
    assert expanded(text, source, SPAN, CHOICES) == wanted


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (Source.POSTGRES, "$__timeFrom()"),
        (Source.POSTGRES, "$__timeGroup(time, '1w')"),
        (Source.POSTGRES, "$__unixEpochFilter(a)"),
        (Source.PROMETHEUS, "x[$__rate_intervall]"),
        (Source.PROMETHEUS, "$__timeFilter(a)"),
        (Source.INFLUX, "$__timeFilter(a)"),
        (Source.POSTGRES, "a IN ($nobody)"),
        (Source.POSTGRES, "$__rate_interval"),
    ],
)
def test_what_nobody_knows_is_refused(source: Source, text: str) -> None:
    with pytest.raises(UnknownMacro):
        expanded(text, source, SPAN, CHOICES)


def test_an_interval_is_round_and_no_finer_than_the_scrapes() -> None:
    assert Span(0, 3600, 15).interval_s == 15
    assert Span(0, 60, 1).interval_s == 1
    assert Span(0, 86_400, 5).interval_s == 300
    assert Span(0, 60, 1).rate_interval_s == 4
    assert Span(0, 86_400, 5).rate_interval_s == 305
