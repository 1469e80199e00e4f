"""Types of config values.

`@checked` on an `__init__` validates every argument by its annotation, so that a class declares its arguments in its
signature, and a wrong value is an error that names the argument before anything is trained.
"""

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, validate_call

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def parse_number(value: Any) -> Any:
    """Return the number that a text such as `"8/255"`, `"0.5/255"`, `"1e-3"` or `"inf"` denotes, rounded once.

    So `1/8`, `2/16` and `0.125` are one number. Values other than text pass through.

    Raises:
        ValueError: the text is not a number, or the value is NaN or a truth value.
    """
    if isinstance(value, bool) or value != value:
        raise ValueError("should be a number such as 0.1, 1e-3 or 8/255")
    if not isinstance(value, str):
        return value
    text = value.replace(" ", "")
    if text.lower() in ("inf", "+inf", "-inf"):
        return float(text)
    parts = text.split("/")
    if len(parts) > 2 or not all(NUMBER.fullmatch(part) for part in parts) or (len(parts) == 2 and Fraction(parts[1]) == 0):
        raise ValueError("should be a number such as 0.1, 1e-3 or 8/255")
    try:
        return float(Fraction(parts[0]) / Fraction(parts[1]) if len(parts) == 2 else Fraction(parts[0]))
    except OverflowError:
        raise ValueError("should be a number that a float can hold") from None


def parse_whole(value: Any) -> Any:
    """Return the whole number that a value denotes: `3`, `3.0` and `"3"` are one.

    Raises:
        ValueError: it denotes none.
    """
    if isinstance(value, bool):
        raise ValueError("should be a whole number")
    if isinstance(value, str):
        if re.fullmatch(r"[+-]?\d+(\.0*)?", value.strip(), re.ASCII) is None:
            raise ValueError("should be a whole number")
        return int(value.strip().partition(".")[0])
    return int(value) if isinstance(value, float) and value.is_integer() else value


def refuse_text(value: Any) -> Any:
    """Return a number unchanged where 1 and 1.0 mean different things, and text would not say which.

    Raises:
        ValueError: the value is a text or a truth value.
    """
    if isinstance(value, str | bool):
        raise ValueError("should be a number without quotes: 1 is a count, 1.0 a fraction")
    return value


def number_text(value: Any) -> str:
    """Return a value as a person would type it: 10 for 10.0, and 8/255 for that radius, as papers write it."""
    if isinstance(value, bool) or not isinstance(value, float) or not math.isfinite(value):
        return str(value)
    levels = round(value * 255)
    is_level = 0 < levels < 255 and levels / 255 == value and len(repr(value)) > 8
    return f"{levels}/255" if is_level else repr(value).removesuffix(".0")


@dataclass(frozen=True)
class InEps:
    """A length as a multiple of the radius: "1.25 eps" means the same for every perturbation set."""

    factor: float

    def __str__(self) -> str:
        return f"{self.factor!r} eps"


def parse_step_size(value: Any) -> Any:
    """Return a positive number, or `InEps` for a text such as `"1.25 eps"`.

    Raises:
        ValueError: the value is neither.
    """
    relative = isinstance(value, str) and value.strip().endswith("eps")
    number = parse_number(value.strip().removesuffix("eps") if relative else value)
    if isinstance(number, float | int) and not 0 < number < math.inf:
        raise ValueError("should be greater than 0")
    return InEps(number) if relative else number


Number = Annotated[float, BeforeValidator(parse_number)]
Positive = Annotated[float, BeforeValidator(parse_number), Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, BeforeValidator(parse_number), Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, BeforeValidator(parse_number), Field(ge=0, le=1)]
Whole = Annotated[int, BeforeValidator(parse_whole)]
Count = Annotated[int, BeforeValidator(parse_whole), Field(ge=1)]
StepSize = Annotated[float | InEps, BeforeValidator(parse_step_size)]

checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True))
