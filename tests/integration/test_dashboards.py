"""Every query of the dashboards, asked of real servers that a run has filled: each must answer with data.

There is no Grafana here. What it would send is made by infra/dashboards/macros.py, which tests/infra/dashboards holds
to Grafana's documentation.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from watched_run import SCRAPE_S, Watched, watched_run

from infra.dashboards.asking import Asker, asking
from infra.dashboards.board import ANNOTATIONS, Board
from infra.dashboards.every_board import BOARDS
from infra.dashboards.macros import Choices, Span
from infra.dashboards.panels import Heat
from infra.dashboards.show import write_pages
from infra.servers.influx import RealInflux

pytestmark = [pytest.mark.embedded, pytest.mark.slow(seconds=80)]
ALL_WITHIN_S = 60.0


@pytest.fixture
def watched(
    tmp_path: Path, real_influx: RealInflux, influx_bucket: str, prometheus_programs: None
) -> Iterator[Watched]:
    """A demo in which all has happened that boards show."""
    with watched_run(tmp_path, real_influx, influx_bucket) as run:
        yield run


def test_every_panel_variable_and_annotation_of_every_board_has_data(
    watched: Watched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = time.monotonic() + ALL_WITHIN_S
    while True:
        span = Span(watched.began_s, time.time(), SCRAPE_S)
        with asking(watched.servers, span) as asker:
            counts, without = _asked(asker)
        if not without or time.monotonic() > limit:
            break
        time.sleep(
            2.0
        )  # A histogram needs two scrapes after its first observation, an expert's skill its first scores.
    with capsys.disabled():
        sys.stdout.write(f"\n{', '.join(f'{value} {name}' for name, value in counts.items())}: ")
        sys.stdout.write(f"{len(without)} of these queries without data\n")
    assert without == []
    paths = write_pages(watched.servers, span, tmp_path / "pages")
    assert len(paths) == len(BOARDS)
    for path in paths:
        text = path.read_text()
        assert "class=none" not in text, f"{path.name} shows a panel without data"
        assert text.count("<h3") == sum(len(board.panels) for board in BOARDS if board.name == path.stem)


def _asked(asker: Asker) -> tuple[dict[str, int], list[str]]:
    """Ask everything; return the counts, and what had no data."""
    counts = {"dashboards": len(BOARDS), "panels": 0, "queries of panels": 0, "of variables": 0, "of annotations": 0}
    without: list[str] = []
    for board in BOARDS:
        chosen: dict[str, list[str]] = {}
        for variable in board.variables:
            counts["of variables"] += 1
            chosen[variable.name] = asker.values(variable, chosen)
            without += [] if chosen[variable.name] else [f"{board.name}: ${variable.name}"]
        without += _panels_asked(asker, board, chosen, counts)
        for annotation in ANNOTATIONS:
            counts["of annotations"] += 1
            without += [] if asker.annotations(annotation).has_data else [f"{board.name}: {annotation.name}"]
    return counts, without


def _panels_asked(asker: Asker, board: Board, chosen: Choices, counts: dict[str, int]) -> list[str]:
    without = []
    for panel in board.panels:
        counts["panels"] += 1
        for query in panel.queries:
            counts["queries of panels"] += 1
            frame = asker.ask(query, chosen)
            # An empty histogram is told as zeros.
            falls = not isinstance(panel.kind, Heat) or any(
                value > 0 for one in frame.series for _, value in one.points
            )
            if not (frame.has_data and falls):
                without.append(f"{board.name}: {panel.title}: {query.text}")
    return without
