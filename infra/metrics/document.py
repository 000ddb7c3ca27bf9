"""Write the tables of docs/metrics.md from the table of metrics: ``python -m infra.metrics.document [--check]``."""

import sys
from pathlib import Path
from typing import Final

from infra.made_tables import MadeTables
from infra.metrics import of_engine, of_stages
from infra.metrics.metric import EVERY, Kind, Metric

MADE: Final = MadeTables(Path(__file__).parents[2] / "docs" / "metrics.md", "infra.metrics.document", "metrics-page")
_PARTS: Final = (("Of every worker", of_engine), ("Of the stages", of_stages))


def tables() -> str:
    """Return the tables in Markdown."""
    parts = []
    for title, module in _PARTS:
        rows = [metric for metric in vars(module).values() if isinstance(metric, Metric)]
        parts += [f"### {title}", "", "| Metric | Kind | Labels | Told by | What it says |", "|---|---|---|---|---|"]
        parts += [*map(_row, rows), ""]
    return "\n".join(parts)


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
    stages = "every worker" if metric.stages == EVERY else ", ".join(metric.stages)
    text = metric.help
    if metric.kind is Kind.HISTOGRAM:
        text += f" Bounds in seconds: {', '.join(f'{bound:g}' for bound in metric.bounds)}."
    return f"| `{metric.name}` | {metric.kind.value} | {labels} | {stages} | {text} |"


if __name__ == "__main__":
    sys.exit(MADE.command(tables(), sys.argv[1:]))
