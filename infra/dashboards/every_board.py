"""The twelve boards in their order, and the files that they are."""

import json
from pathlib import Path
from typing import Final

from infra.dashboards.board import Board
from infra.dashboards.boards import (
    audit,
    behaviour,
    decider,
    experts,
    foreign,
    market,
    orders,
    overview,
    pnl,
    risk,
    stores,
    workers,
)

BOARDS: Final[tuple[Board, ...]] = (
    *(overview.BOARD, market.BOARD, experts.BOARD, decider.BOARD, risk.BOARD, orders.BOARD),
    *(pnl.BOARD, workers.BOARD, stores.BOARD, foreign.BOARD, audit.BOARD, behaviour.BOARD),
)
ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy" / "grafana" / "dashboards"


def files() -> dict[Path, str]:
    """Return every file of the dashboards and what it must hold. Grafana shows each folder as one of its own."""
    return {
        FOLDER / board.folder / f"{board.name}.json": json.dumps(board.json(), indent=2, sort_keys=True) + "\n"
        for board in BOARDS
    }
