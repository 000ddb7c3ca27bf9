"""The number parser against Decimal: exact where it answers, and a refusal wherever it would have to round or guess."""

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.feeds.decimals import NotANumber, parse_count, parse_units

PLAIN = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)


def _expected(text: str) -> int | None:
    if not PLAIN.fullmatch(text):
        return None
    scaled = Decimal(text).scaleb(8)
    if len(text.partition(".")[2]) > 8 or scaled >= 2**63:
        return None
    return int(scaled)


def _answer(text: str) -> int | None:
    try:
        return parse_units(text)
    except NotANumber:
        return None


@given(st.from_regex(r"\A[0-9]{1,14}(\.[0-9]{1,10})?\Z"))
def test_a_plain_decimal_is_read_exactly_or_refused(text: str) -> None:
    assert _answer(text) == _expected(text)


@given(st.text(alphabet="0123456789.+-eE_ ,٣²\n", max_size=45) | st.text(max_size=8))
def test_no_other_text_is_taken_for_a_number(text: str) -> None:
    assert _answer(text) == _expected(text)


@given(st.integers(0, 2**63 - 1))
def test_every_number_of_64_bits_survives_the_way_through_text(value: int) -> None:
    assert parse_units(f"{Decimal(value).scaleb(-8):f}") == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a plain decimal"),
        ("-1", "not a plain decimal"),
        ("NaN", "not a plain decimal"),
        ("1e5", "not a plain decimal"),
        (".5", "not a plain decimal"),
        ("5.", "not a plain decimal"),
        ("1.2.3", "not a plain decimal"),
        ("1.000000000", "more than 8 decimal places"),
        ("92233720368.54775808", "does not fit 64 bits"),
        ("1" * 100_000, "does not fit 64 bits"),
    ],
)
def test_a_refusal_says_why(text: str, reason: str) -> None:
    with pytest.raises(NotANumber, match=reason):
        parse_units(text)


@given(st.integers(0, 2**64), st.sampled_from((1, 10_000, 100_000_000)))
def test_a_whole_number_of_steps_is_exact_or_refused(count: int, units_each: int) -> None:
    if count * units_each < 2**63:
        assert parse_count(str(count), units_each) == count * units_each
    else:
        with pytest.raises(NotANumber):
            parse_count(str(count), units_each)


@pytest.mark.parametrize("text", ["", "-1", "+1", "1_000", " 1", "1.0", "٣", "x"])
def test_a_count_is_digits_only(text: str) -> None:
    with pytest.raises(NotANumber):
        parse_count(text, 1)
