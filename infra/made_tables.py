"""Tables that code makes inside pages that people write, between two marks, and that a check holds fresh."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MadeTables:
    """The place of tables in a page: ``made_by`` is the module that makes them, ``target`` the Makefile's for it."""

    page: Path
    made_by: str
    target: str

    def put_into(self, page: str, tables: str) -> str:
        """Return the page with these tables between its marks, which end with no newline of their own."""
        begin, end = (f"<!-- made by python -m {self.made_by}: {which} -->" for which in ("begin", "end"))
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        return f"{before}{begin}\n{tables}\n{end}{after}"

    def command(self, tables: str, arguments: Sequence[str]) -> int:
        """Write the page, or with ``--check`` say whether it is fresh (exit code 1 when not)."""
        page = self.page.read_text()
        fresh = self.put_into(page, tables)
        if "--check" not in arguments:
            self.page.write_text(fresh)
        elif page != fresh:
            sys.stderr.write(f"docs/{self.page.name} is stale: run `make {self.target}`.\n")
            return 1
        return 0
