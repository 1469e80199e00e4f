"""The types that a config's values are checked against when an object is built from them.

`@checked` on an `__init__` lets pydantic hold every argument to its annotation, so that a class states once, in its
signature, what is right, and a wrong value is an error that names the argument before anything is trained.
"""

import math
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
        number = float(value) if value.strip().lower() in ("inf", "nan") else None
        if number is None or math.isnan(number):
            raise ValueError("should be a number such as 0.1, 1e-3 or 8/255") from None
        return number


Number = Annotated[float, BeforeValidator(parse_number)]
Positive = Annotated[float, BeforeValidator(parse_number), Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, BeforeValidator(parse_number), Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, BeforeValidator(parse_number), Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]

checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True))
