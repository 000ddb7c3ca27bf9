"""Write the tables of docs/metrics.md from the table of metrics: ``python -m infra.metrics.document [--check]``."""

import sys
from pathlib import Path
from typing import Final

from infra.metrics import of_engine, of_stages
from infra.metrics.metric import EVERY, Kind, Metric

PAGE: Final = Path(__file__).parents[2] / "docs" / "metrics.md"
_BEGIN: Final = "<!-- made by python -m infra.metrics.document: begin -->"
_END: Final = "<!-- made by python -m infra.metrics.document: end -->"
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


def with_tables(page: str) -> str:
    """Return the page with the tables as they should be."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{tables()}\n{_END}{after}"


def main() -> int:
    """Write the page, or with ``--check`` say whether it is fresh."""
    page = PAGE.read_text()
    fresh = with_tables(page)
    if "--check" in sys.argv[1:]:
        if page != fresh:
            sys.stderr.write("docs/metrics.md is stale: run `make metrics-page`.\n")
            return 1
        return 0
    PAGE.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
