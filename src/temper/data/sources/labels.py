"""Classes from the values of a label column, and the stratified test split of data that has none."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from temper.data.sources.interfaces import DataError

Value = str | int | float | bool


class LabelMapping:
    """Mapping from the values of a target column to classes.

    If neither `positive` nor `negative` is given, every value is a class, in alphabetical order.

    Args:
        target: Name of the target column.
        positive: Values of class 1; all other values are class 0.
        negative: Values of class 0; all other values are class 1.

    Raises:
        ValueError: Both `positive` and `negative` are given.
    """

    def __init__(
        self, target: str, positive: Value | Sequence[Value] | None = None, negative: Value | Sequence[Value] | None = None
    ) -> None:
        if positive is not None and negative is not None:
            raise ValueError("positive: negative is set as well. Set either positive or negative.")
        self.target = target
        self.key = "negative" if positive is None else "positive"
        values = negative if positive is None else positive
        self.values = (
            [] if values is None else [canonical_text(value) for value in ([values] if isinstance(values, Value) else values)]
        )

    def names(self, values: Sequence[str], where: str) -> list[str]:
        """Return the class name of each row: "1" or "0" if `positive` or `negative` is given, else the value itself.

        Args:
            values: Values of the target column.
            where: Name of the file, for the message.

        Raises:
            DataError: A value of `positive` or `negative` does not occur.
        """
        if not self.values:
            return list(values)
        if absent := sorted(set(self.values) - set(values)):
            existing = ", ".join(sorted(set(values))[:10])
            raise DataError(
                f"data.source.{self.key}={','.join(absent)}: no row of {where} has this value in column {self.target}. Its "
                f"values are {existing}."
            )
        return [str(int((value in self.values) == (self.key == "positive"))) for value in values]

    def classes(self, names: Sequence[str], where: str) -> list[str]:
        """Return the sorted names of the classes.

        Args:
            names: Class name of each row.
            where: Name of the file, for the message.

        Raises:
            DataError: There is only one class.
        """
        classes = sorted(set(names))
        if len(classes) == 1:
            raise DataError(
                f"{where}: column {self.target} is {classes[0]} in every row. Add rows of another class, or name another "
                "column as data.source.target."
            )
        return classes

    def encode(self, names: Sequence[str], classes: Sequence[str], where: str) -> list[int]:
        """Return the class number of each row.

        Args:
            names: Class name of each row.
            classes: Names of the classes of the training rows, in the order of their numbers.
            where: Name of the file, for the message.

        Raises:
            DataError: A row has a class that no training row has.
        """
        numbers = {name: number for number, name in enumerate(classes)}
        if unknown := sorted(set(names) - set(classes)):
            raise DataError(
                f"{where}: column {self.target} has {', '.join(unknown)}, which no training row has. Remove these rows, or "
                "merge values into one class with data.source.positive."
            )
        return [numbers[name] for name in names]


def split_train_test(
    labels: Sequence[str] | Sequence[int],
    fraction: float,
    where: str,
    *,
    unit: str = "row",
    remedy: str = "merge the class with another one through data.source.positive",
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a stratified test split, the same for all runs.

    Args:
        labels: Class of each row.
        fraction: Fraction of the rows that are held out.
        where: Place of the data, for the message.
        unit: Name of a row, for the message.
        remedy: Alternative to more data if a class is too small, for the message.

    Returns:
        Indices of the rows for training and for the test.

    Raises:
        DataError: A class has too few rows for training, validation and test.
    """
    for label, count in sorted(Counter(labels).items()):
        if count < 3:
            raise DataError(
                f"{where}: class {label} has {count} {unit}{'s' * (count > 1)}, but training, validation and test need one "
                f"each. Add {unit}s, or {remedy}."
            )
    try:
        kept, held = train_test_split(np.arange(len(labels)), test_size=fraction, stratify=labels, random_state=0)
    except ValueError as error:
        raise DataError(
            f"{where}: {len(labels)} {unit}s are too few for a stratified test split ({error}). Add {unit}s, or give the test "
            "data separately."
        ) from None
    return kept, held


def canonical_text(value: Any) -> str:
    """Return a value as text, the same for 1, 1.0 and "1"."""
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value).strip()
