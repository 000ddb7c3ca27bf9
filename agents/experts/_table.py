"""The page ``docs/experts.md``, made from the docstrings: what each expert believes, sees, and when it should fail.

``python -m agents.experts._table`` prints it; a test compares it with the committed page.
"""

import re
import sys

from agents.experts._registry import load

SECTIONS = ("Hypothesis", "Inputs", "Fails when")
"""The sections that the docstring of every expert has, in this order."""

_INTRO = """# Experts

Made from the docstrings under `agents/experts/` by `python -m agents.experts._table > docs/experts.md`; do not edit.
A new expert is one new file there (see `agents/experts/_contract.py`); `tests/contracts/test_every_expert.py` holds
it to the contract without being told of it. A foreign expert is any process that reads `feature.snapshot` and writes
`ingest.vote` (see `docs/examples/foreign_expert.py`).

| expert | hypothesis | inputs | fails when |
|---|---|---|---|
"""


def sections(docstring: str) -> dict[str, str]:
    """Return the text of each section of an expert's docstring on one line; empty where it has none."""
    pattern = re.compile(rf"^({'|'.join(SECTIONS)}):(.*?)(?=^(?:{'|'.join(SECTIONS)}):|\Z)", re.DOTALL | re.MULTILINE)
    found = {name: " ".join(text.split()) for name, text in pattern.findall(docstring)}
    return {name: found.get(name, "") for name in SECTIONS}


def experts_page() -> str:
    """Return the page, one row per expert in the order of their names."""
    rows = []
    for name, expert in load().items():
        told = sections(sys.modules[type(expert).__module__].__doc__ or "")
        rows.append(f"| `{name}` | {' | '.join(told[section] for section in SECTIONS)} |\n")
    return _INTRO + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(experts_page())
