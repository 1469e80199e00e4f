from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temper.config.types import parse_number


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_a_fraction_is_parsed_exactly(numerator: int, denominator: int) -> None:
    assert parse_number(f"{numerator}/{denominator}") == float(Fraction(numerator, denominator))


def test_what_papers_write() -> None:
    assert parse_number("8/255") == 8 / 255 != 0.031
    assert parse_number("1e-3") == 1e-3
    assert parse_number(" 2 / 16 ") == 0.125
    assert parse_number(0.5) == 0.5


@pytest.mark.parametrize("text", ["eight", "8/0", "8//255", "", "nan"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="8/255"):
        parse_number(text)
