"""Write the dashboards' JSON and page: ``python -m infra.dashboards``; ``--check`` says whether they are fresh."""

import sys
from collections.abc import Sequence
from pathlib import Path

from infra.dashboards.every_board import FOLDER, ROOT, files
from infra.dashboards.page import fresh_page


def stale(wanted: dict[Path, str]) -> list[str]:
    """Return a sentence for each file that is not as it must be, or should not be there."""
    found = [
        f"{path.relative_to(ROOT)} is stale."
        for path, text in wanted.items()
        if not path.is_file() or path.read_text() != text
    ]
    left_over = set(FOLDER.rglob("*.json")) - wanted.keys()
    return found + [f"{path.relative_to(ROOT)} is no board's." for path in sorted(left_over)]


def main(arguments: Sequence[str]) -> int:
    """Write, or with ``--check`` only look; return the exit code."""
    page, text = fresh_page()
    wanted = {**files(), page: text}
    sentences = stale(wanted)
    if "--check" in arguments:
        for sentence in sentences:
            sys.stderr.write(f"{sentence} Run `make dashboards`.\n")
        return 1 if sentences else 0
    for path, content in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for path in set(FOLDER.rglob("*.json")) - wanted.keys():
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
