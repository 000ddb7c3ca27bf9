"""The table of boards and panels in docs/dashboards.md, made from the builders."""

from pathlib import Path
from typing import Final

from infra.dashboards.board import Board
from infra.dashboards.every_board import BOARDS, ROOT
from infra.made_tables import MadeTables

MADE: Final = MadeTables(ROOT / "docs" / "dashboards.md", "infra.dashboards", "dashboards")


def fresh_page() -> tuple[Path, str]:
    """Return the page and what it must hold."""
    return MADE.page, MADE.put_into(MADE.page.read_text(), _tables())


def _tables() -> str:
    panels = sum(len(board.panels) for board in BOARDS)
    queries = sum(len(panel.queries) for board in BOARDS for panel in board.panels)
    head = f"{len(BOARDS)} boards, {panels} panels, {queries} queries of panels.\n\n"
    return head + "\n".join(map(_table, BOARDS)).removesuffix("\n")


def _table(board: Board) -> str:
    asked = ", ".join(f"`${variable.name}`" for variable in board.variables if not variable.hidden) or "nothing"
    lines = [
        f"### {board.title}",
        f"`{board.uid}`, folder {board.folder}; one can choose: {asked}. {board.description}",
        "",
        "| panel | what it shows | from |",
        "|---|---|---|",
    ]
    for panel in board.panels:
        sources = ", ".join(sorted({query.source.provisioned for query in panel.queries}))
        lines.append(f"| {panel.title} | {panel.description} | {sources} |")
    return "\n".join(lines) + "\n"
