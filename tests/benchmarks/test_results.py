"""How benchmarks sum up: a quantile is given only where the values can carry it."""

from benchmarks.results import quantile, table


def test_a_quantile_needs_as_many_values_as_it_has_ranks() -> None:
    values = [float(number) for number in range(1000)]
    assert quantile(values, 0.5) == 500.0
    assert quantile(values, 0.99) == 989.0
    assert quantile(values, 0.999) == 998.0
    assert quantile(values[:999], 0.999) is None
    assert quantile(values[:99], 0.99) is None
    assert quantile([], 0.5) is None


def test_a_table_lines_up_its_columns_and_shows_what_is_missing() -> None:
    assert table(("what", "n"), [["a", 1234], ["bcdef", None]]) == "what       n\na      1,234\nbcdef      -"
