"""From what stands in a column of labels to classes."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from temper.data.sources.interfaces import DataError

Value = str | int | float | bool


class Naming:
    """Which values of a target are class 1.

    Args:
        target: name of the column.
        positive: values that are class 1, every other one is class 0.
        negative: likewise, values that are class 0. Neither: every value is a class, in their order as text.

    Raises:
        ValueError: both are named.
    """

    def __init__(
        self, target: str, positive: Value | Sequence[Value] | None = None, negative: Value | Sequence[Value] | None = None
    ) -> None:
        if positive is not None and negative is not None:
            raise ValueError("positive: name the values of one class, positive or negative")
        self.target = target
        self.key = "negative" if positive is None else "positive"
        chosen = negative if positive is None else positive
        self.chosen = (
            [] if chosen is None else [as_text(value) for value in ([chosen] if isinstance(chosen, Value) else chosen)]
        )

    def __call__(self, values: Sequence[str], where: str) -> list[str]:
        """The class of each row by its name: the value itself, or "1" and "0" where the values of one class are named.

        Raises:
            DataError: one that is named never occurs.
        """
        if not self.chosen:
            return list(values)
        if absent := sorted(set(self.chosen) - set(values)):
            some = ", ".join(sorted(set(values))[:10])
            raise DataError(f"data.source.{self.key}: {self.target} of {where} is never {', '.join(absent)}; it is {some}")
        return [str(int((value in self.chosen) == (self.key == "positive"))) for value in values]

    def classes(self, labels: Sequence[str], where: str) -> list[str]:
        """The names of the classes, sorted.

        Raises:
            DataError: there is one alone.
        """
        names = sorted(set(labels))
        if len(names) == 1:
            raise DataError(f"{where}: {self.target} is {names[0]} in every row, and there should be two classes at least")
        return names

    def numbers(self, labels: Sequence[str], names: Sequence[str], where: str) -> list[int]:
        """The classes as numbers.

        Raises:
            DataError: a row is of none that training has.
        """
        number = {name: position for position, name in enumerate(names)}
        if unknown := sorted(set(labels) - set(names)):
            raise DataError(
                f"{where}: {self.target} is {', '.join(unknown)}, which no row for training is; take such rows out, or say "
                "which values are one class by data.source.positive"
            )
        return [number[label] for label in labels]


def held_out(
    labels: Sequence[str] | Sequence[int],
    share: float,
    where: str,
    *,
    unit: str = "row",
    cure: str = "make it part of another class by data.source.positive",
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows, or what else `unit` calls them, for training and for the test: stratified, the same for all runs.

    Args:
        cure: what can be done about a class that is too small, other than to bring more.

    Raises:
        DataError: a class is too small to be on all sides.
    """
    for label, count in sorted(Counter(labels).items()):
        if count < 3:
            raise DataError(
                f"{where}: class {label} has {count} {unit}{'s' * (count > 1)}, and training, validation and testing need one "
                f"each: bring more, or {cure}"
            )
    try:
        kept, held = train_test_split(np.arange(len(labels)), test_size=share, stratify=labels, random_state=0)
    except ValueError as error:
        raise DataError(f"{where}: {len(labels)} {unit}s are too few to hold some of each class out ({error})") from None
    return kept, held


def as_text(value: Any) -> str:
    """1, 1.0 and "1" are the same."""
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value).strip()
