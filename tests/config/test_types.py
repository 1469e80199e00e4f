from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temper.config.types import number_text, parse_number


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


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10.0, "10"),
        (0.125, "0.125"),
        (8 / 255, "8/255"),
        (0.031, "0.031"),
        (1e-05, "1e-05"),
        (3, "3"),
        (None, "None"),
        (True, "True"),
    ],
)
def test_numbers_are_shown_as_a_person_types_them(value: object, text: str) -> None:
    assert number_text(value) == text
    if isinstance(value, float):
        assert parse_number(text) == value
