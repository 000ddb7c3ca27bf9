"""The committed page of experts is what the docstrings say."""

from pathlib import Path

from agents.experts._registry import load
from agents.experts._table import experts_page, sections

PAGE = Path(__file__).parents[3] / "docs" / "experts.md"


def test_the_committed_page_is_fresh() -> None:
    assert PAGE.read_text() == experts_page(), "run: python -m agents.experts._table > docs/experts.md"


def test_every_expert_has_a_row() -> None:
    page = experts_page()
    assert all(f"| `{name}` |" in page for name in load())


def test_sections_are_cut_at_the_next_one() -> None:
    told = sections("A\n\nHypothesis: one\n two.\nInputs: three.\n")
    assert told == {"Hypothesis": "one two.", "Inputs": "three.", "Fails when": ""}
