"""The table of states as docs/orders.md has it: ``python -m agents.execution._table`` prints it."""

import sys
from collections.abc import Iterator

from agents.execution.transitions import TERMINAL, TRANSITIONS
from schemas.orders import ExecType, OrderStatus


def state_table() -> str:
    """Return the transition table as Markdown, one row for each status."""
    rows = ["| in | stays on | goes to |", "|---|---|---|"]
    for status, moves in TRANSITIONS.items():
        name = f"**{status}**" if status in TERMINAL else str(status)
        stays = [exec_type for exec_type, after in moves.items() if after is status]
        rows.append(f"| {name} | {_listed(stays)} | {', '.join(_ways(status, moves)) or 'nothing'} |")
    return "\n".join(rows) + "\n"


def _ways(status: OrderStatus, moves: dict[ExecType, OrderStatus]) -> Iterator[str]:
    for after in OrderStatus:
        causes = [exec_type for exec_type, found in moves.items() if found is after]
        if causes and after is not status:
            yield f"{after} on {_listed(causes)}"


def _listed(causes: list[ExecType]) -> str:
    return " ".join(sorted(causes)) or "nothing"


if __name__ == "__main__":
    sys.stdout.write(state_table())
