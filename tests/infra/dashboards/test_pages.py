"""The pages that show a board without Grafana: numbers as people read them, and charts that hold what was answered."""

import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from infra.dashboards.charts import heat, lines, states
from infra.dashboards.drawing import Shown, page
from infra.dashboards.every_board import BOARDS
from infra.dashboards.formats import colour_at, told
from infra.dashboards.frames import Frame, Series
from infra.dashboards.macros import Span
from infra.dashboards.panels import Lines, Panel, States
from infra.dashboards.queries import Prom, Sql
from infra.dashboards.show import main
from infra.dashboards.units import LEVELS, NO_LIMITS, Limit, Limits, Unit, at, below

SPAN = Span(1_000.0, 1_100.0, 1.0)


def _panel(kind: Lines | States, **changes: object) -> Panel:
    return Panel("T", "A panel of the test.", Unit.PLAIN, (Prom("up"),), kind, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "text"),
    [
        (0.0123, Unit.SECONDS, None, "12.3 ms"),
        (90.0, Unit.SECONDS, None, "1.5 min"),
        (1_500.0, Unit.NANOSECONDS, None, "1.5 µs"),
        (0.256, Unit.SHARE, 1, "26 %"),
        (1536.0, Unit.BYTES, None, "1.5 KiB"),
        (-12.5, Unit.MONEY, 2, "-$12.50"),
        (Decimal("2.50"), Unit.BASIS_POINTS, 2, "2.50 bp"),
        (12.0, Unit.PER_SECOND, None, "12/s"),
        (None, Unit.COUNT, None, "–"),
        (math.nan, Unit.COUNT, None, "–"),
        ("SELL", Unit.PLAIN, None, "SELL"),
        (datetime(2026, 1, 1, 9, 8, 7, tzinfo=UTC), Unit.DATE, None, "09:08:07"),
    ],
)
def test_a_number_is_told_in_its_unit(value: object, unit: Unit, decimals: int | None, text: str) -> None:
    assert told(value, unit, decimals) == text


def test_a_value_has_its_name_and_the_colour_of_the_limit_that_it_has_reached() -> None:
    assert told(2.0, Unit.PLAIN, names=LEVELS) == "HALTED"
    assert colour_at(2.0, NO_LIMITS, LEVELS) == "red"
    near = Limits((Limit(0.9), Limit(1.0)))
    assert [colour_at(value, near) for value in (0.1, 0.9, 1.2)] == ["green", "red", "red"]
    assert [colour_at(value, below(0.99)) for value in (0.5, 0.99)] == ["red", "green"]
    assert [colour_at(value, at(5)) for value in (4.9, 5)] == ["green", "red"]


def test_a_line_rises_with_its_values_and_stacked_ones_lie_on_each_other() -> None:
    rising = Series("a", ((1_000.0, 0.0), (1_050.0, 5.0), (1_100.0, 10.0)))
    found = re.findall(r"([\d.]+),([\d.]+)", lines(_panel(Lines()), [rising], SPAN, []))
    xs, ys = [float(x) for x, _ in found[:3]], [float(y) for _, y in found[:3]]
    assert xs == sorted(xs)
    assert ys == sorted(ys, reverse=True)
    stacked = lines(_panel(Lines(stacked=True)), [rising, rising], SPAN, [])
    paths = re.findall(r'd="(M[^"Z]*)" fill="none"', stacked)
    [first, second] = [[float(y) for _, y in re.findall(r"([\d.]+),([\d.]+)", path)] for path in paths]
    assert second[2] < first[2], "the second lies on the first"
    assert second[0] == first[0]


def test_marks_limits_and_gaps_are_drawn() -> None:
    gap = Series("a", ((1_000.0, 1.0), (1_010.0, math.nan), (1_020.0, 3.0)))
    drawn = lines(_panel(Lines(), limits=at(2)), [gap], SPAN, [(1_015.0, "red")])
    assert drawn.count('class="limit"') == drawn.count('class="mark"') == 1
    assert "nan" not in drawn


def test_equal_states_are_one_stretch() -> None:
    one = Series("worker", ((1_000.0, 1.0), (1_001.0, 1.0), (1_002.0, 0.0), (1_003.0, 1.0)))
    drawn = states(_panel(States(), names=LEVELS), [one], SPAN)
    assert re.findall(r"<title>(\w+)</title>", drawn) == ["REDUCING", "ACTIVE", "REDUCING"]


def test_a_heat_map_shows_each_bucket_without_those_below_it() -> None:
    panel = next(panel for board in BOARDS for panel in board.panels if panel.kind.kind == "heatmap")
    series = [Series("0.1", ((1_000.0, 2.0),)), Series("+Inf", ((1_000.0, 2.0),)), Series("1.0", ((1_000.0, 2.0),))]
    assert heat(panel, series, SPAN).count("<rect") == 1, "all fell into the lowest"


def test_a_page_shows_every_panel_of_its_board_and_says_where_there_is_nothing() -> None:
    board = next(board for board in BOARDS if board.name == "audit")
    series = Frame((Series("<b>", ((1_050.0, 1.0),)),))
    table = Frame(columns=("author", "times"), rows=(("ann & bob", 3),))
    answered = {
        panel.title: Shown(panel, tuple(table if isinstance(query, Sql) else series for query in panel.queries))
        for panel in board.panels
    }
    empty = board.panels[0]
    answered[empty.title] = Shown(empty, (Frame(),))
    text = page(board, answered, SPAN, [], "")
    assert text.count("<h3") == len(board.panels)
    assert text.count("class=none") == 1
    assert "ann &amp; bob" in text
    assert "not by Grafana" in text


def test_a_run_that_does_not_say_where_its_servers_are_is_told_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text(
        '{"overrides": {"postgres.dsn": "dbname=x", "influx.url": "http://127.0.0.1:1"}}'
    )
    assert main(["--run", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{tmp_path} does not say where everything is: give --prometheus, --token-file.\n"
