"""The types that a config's values are checked against when an object is built from them.

`@checked` on an `__init__` lets pydantic hold every argument to its annotation, so that a class states once, in its
signature, what is right, and a wrong value is an error that names the argument before anything is trained.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, validate_call


def parse_number(value: Any) -> Any:
    """`"8/255"` as papers write it, exactly (0.031 is not 8/255); any other value passes through unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return float(Fraction(value.replace(" ", "")))
    except (ValueError, ZeroDivisionError):
        number = float(value) if value.strip().lower() in ("inf", "-inf", "nan") else None
        if number is None or math.isnan(number):
            raise ValueError("should be a number such as 0.1, 1e-3 or 8/255") from None
        return number


@dataclass(frozen=True)
class InEps:
    """A length as a multiple of the radius: "1.25 eps" means the same whatever the threat."""

    factor: float


def parse_step_size(value: Any) -> Any:
    """A positive number, or `"1.25 eps"`."""
    relative = isinstance(value, str) and value.strip().endswith("eps")
    number = parse_number(value.strip().removesuffix("eps") if relative else value)
    if isinstance(number, float | int) and not 0 < number < math.inf:
        raise ValueError("should be greater than 0")
    return InEps(number) if relative else number


Number = Annotated[float, BeforeValidator(parse_number)]
Positive = Annotated[float, BeforeValidator(parse_number), Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, BeforeValidator(parse_number), Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, BeforeValidator(parse_number), Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
StepSize = Annotated[float | InEps, BeforeValidator(parse_step_size)]

checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True))
