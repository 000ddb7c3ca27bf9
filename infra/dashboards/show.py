"""A run's boards as HTML pages, without Grafana: ``python -m infra.dashboards.show --run DIRECTORY``.

It asks the servers of the run, or others that are named, what the panels ask, and draws what they answer: one page a
board, plain HTML with SVG. The pages are a picture of one moment; they ask nothing by themselves.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from infra.dashboards.asking import Asker, AskFailed, Servers, asking
from infra.dashboards.board import ANNOTATIONS, Board
from infra.dashboards.drawing import Shown, page
from infra.dashboards.every_board import BOARDS
from infra.dashboards.macros import Span

_PROMETHEUS: Final = "Prometheus"


def main(arguments: Sequence[str]) -> int:
    """Write the pages; return the exit code: 2 when a server is not there or not known."""
    told = _parsed(arguments)
    try:
        servers = servers_of(told.run, told)
        now_s = time.time()
        span = Span(now_s - told.minutes * 60, now_s, told.scrape_s)
        paths = write_pages(servers, span, told.out or told.run / "dashboards", told.board)
    except AskFailed as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{len(paths)} boards: open {paths[0]}\n")
    return 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.dashboards.show", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", type=Path, default=Path(".run/latest"), help="the directory of a run")
    parser.add_argument("--minutes", type=float, default=15.0, help="how far back the boards look")
    parser.add_argument("--scrape-s", type=float, default=5.0, help="how often Prometheus scrapes")
    parser.add_argument("--board", action="append", default=[], help="only this board, by name; repeatable")
    parser.add_argument("--out", type=Path, help="where to write (default: dashboards below the run)")
    parser.add_argument("--prometheus", help="URL; by default that of `tradermind up`")
    parser.add_argument("--dsn", help="of Postgres; by default the run's")
    parser.add_argument("--influx", help="URL; by default the run's")
    parser.add_argument("--bucket", help="of InfluxDB; by default the run's")
    parser.add_argument("--token-file", type=Path, help="holds InfluxDB's token; by default the run's")
    return parser.parse_args(arguments)


def servers_of(run: Path, told: argparse.Namespace) -> Servers:
    """Return where the data sources of a run are: what was told, else what the run has written down of itself."""
    given = _read(run / "run.json").get("overrides", {})
    addresses = _read(run / "up.json").get("addresses", {})
    found = {
        "--prometheus": str(told.prometheus or addresses.get(_PROMETHEUS, "")),
        "--dsn": str(told.dsn or given.get("postgres.dsn", "")),
        "--influx": str(told.influx or given.get("influx.url", "")),
        "--bucket": str(told.bucket or given.get("influx.bucket", "tradermind")),
        "--token-file": str(told.token_file or given.get("influx.token_file", "")),
    }
    missing = [name for name, value in found.items() if not value]
    if missing:
        raise AskFailed(f"{run} does not say where everything is: give {', '.join(missing)}.")
    token = Path(found["--token-file"]).read_text().strip()
    return Servers(found["--prometheus"], found["--dsn"], found["--influx"], found["--bucket"], token)


def _read(path: Path) -> dict[str, dict[str, str]]:
    return json.loads(path.read_text()) if path.is_file() else {}


def write_pages(servers: Servers, span: Span, folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """Write the pages of the boards named, or of all; return their paths. Raises AskFailed."""
    folder.mkdir(parents=True, exist_ok=True)
    boards = [board for board in BOARDS if not names or board.name in names]
    menu = "".join(f'<a href="{board.name}.html">{board.title}</a>' for board in boards)
    paths = []
    with asking(servers, span) as asker:
        marks = _marks(asker)
        for board in boards:
            path = folder / f"{board.name}.html"
            path.write_text(page(board, answers(asker, board), span, marks, menu))
            paths.append(path)
    return paths


def answers(asker: Asker, board: Board) -> dict[str, Shown]:
    """Return what the servers answer to each panel of a board, by its title. Raises AskFailed."""
    choices = asker.choices(board)
    return {
        panel.title: Shown(panel, tuple(asker.ask(query, choices) for query in panel.queries)) for panel in board.panels
    }


def _marks(asker: Asker) -> list[tuple[float, str]]:
    return [
        (row[0].timestamp(), annotation.colour.value)
        for annotation in ANNOTATIONS
        for row in asker.annotations(annotation).rows
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
