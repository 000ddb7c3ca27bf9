"""The table of states in docs/orders.md is the one that execution goes by."""

from pathlib import Path

from agents.execution._table import state_table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "orders.md"


def test_the_page_has_the_table_that_is_in_force() -> None:
    _, _, rest = PAGE.read_text(encoding="utf-8").partition("<!-- states -->\n")
    table, end, _ = rest.partition("<!-- /states -->")
    assert end, "the page has no table of states"
    assert table == state_table(), "python -m agents.execution._table prints the table of now"
