"""Tables of numbers, integers and categories, and the encoder that standardizes their rows."""

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from temper.config.types import Probability, checked
from temper.data.domain import Domain
from temper.data.sources.interfaces import Arrays, DataError
from temper.data.sources.labels import LabelMapping, Value, canonical_text, split_train_test

Columns = Sequence[str]
UNKNOWN = "<unknown>"  # a category that no training row has


class NamedFrame(NamedTuple):
    """Rows as they were read.

    Attributes:
        rows: The rows.
        name: Name of their file or data set, for messages.
    """

    rows: pd.DataFrame
    name: str


class Table(ABC):
    """Rows (N, F) of numbers, followed by one-hot encoded categories.

    A category that no training row has is encoded as 0 in all features of its column.

    Args:
        target: Column of the labels.
        positive: Values of the target that are class 1; all other values are class 0.
        negative: Values of the target that are class 0; all other values are class 1. With neither, every value is a class, in
            alphabetical order.
        numeric: Columns of numbers. None means every column that no other argument names.
        integer: Columns of integers, which an attack keeps integer.
        categorical: Columns of categories.
        immutable: Columns that an adversary cannot change.
        ignore: Columns that are left out.
        test_fraction: Fraction of the rows that are held out as the test split if there are no separate test rows. The split is
            stratified and the same for all runs.
        content: Digest that `measure` returned when the run was configured. None means no check.

    Raises:
        ValueError: A column is listed more than once, or both `positive` and `negative` are given.
    """

    @checked
    def __init__(
        self,
        *,
        target: str,
        positive: Value | Sequence[Value] | None = None,
        negative: Value | Sequence[Value] | None = None,
        numeric: Columns | None = None,
        integer: Columns = (),
        categorical: Columns = (),
        immutable: Columns = (),
        ignore: Columns = (),
        test_fraction: Probability = 0.25,
        content: str | None = None,
    ) -> None:
        self.target, self.label_mapping = target, LabelMapping(target, positive, negative)
        self.numeric, self.integer, self.categorical = numeric, list(integer), list(categorical)
        self.immutable, self.ignore, self.test_fraction = list(immutable), list(ignore), test_fraction
        self.content = content
        named = [target, *(numeric or ()), *self.integer, *self.categorical, *self.ignore]
        if repeated := sorted({column for column in named if named.count(column) > 1}):
            raise ValueError(
                f"column {', '.join(repeated)} is listed more than once in target, numeric, integer, categorical and ignore. "
                "List each column once."
            )

    @abstractmethod
    def frames(self) -> tuple[NamedFrame, NamedFrame | None]:
        """Read the rows: all of them and None, or those for training and those for the test."""

    @cached_property
    def _parts(self) -> tuple[NamedFrame, NamedFrame]:
        """Rows for training and for the test."""
        train, test = self.frames()
        for frame in (train, test):
            if frame is not None:
                self._check_columns(frame)
        if test is not None:
            return train, test
        kept, held = split_train_test(self._labels(train), self.test_fraction, f"{train.name}, {self.target}")
        return NamedFrame(train.rows.iloc[kept], train.name), NamedFrame(train.rows.iloc[held], train.name)

    @cached_property
    def classes(self) -> int:
        """Number of classes."""
        return len(self._class_names)

    @property
    def shape(self) -> tuple[int]:
        """Shape of one encoded row, (F,)."""
        return (len(self._numeric_columns) + sum(map(len, self._categories.values())),)

    def load(self) -> Arrays:
        self._check_immutable()
        train, test = self._parts
        y_train, y_test = (
            torch.tensor(self.label_mapping.encode(self._labels(part), self._class_names, part.name)) for part in (train, test)
        )
        return Arrays(self._features(train), y_train, self._features(test), y_test)

    def fit(self, x: Any, y: Tensor) -> "RowEncoder":
        """Fit scales and ranges on the rows x, (N, F) float64."""
        count = len(self._numeric_columns)
        center, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
        center[:count], scale[:count] = x[:, :count].mean(0), x[:, :count].std(0)
        scale[scale == 0] = 1  # constant features
        lowest, highest = x.min(0), x.max(0)
        lowest[count:] = 0  # a category that no training row has is encoded as all 0
        lower, upper = (torch.from_numpy((end - center) / scale).float() for end in (lowest, highest))
        groups, integer = list(self._groups()), torch.zeros(x.shape[1], dtype=torch.bool)
        changeable = torch.ones(1, x.shape[1])
        for position, column in enumerate(self._numeric_columns):
            integer[position] = column in self.integer
            changeable[0, position] = column not in self.immutable
        for column, group in zip(self._categories, groups, strict=True):
            changeable[0, slice(*group)] = column not in self.immutable
        domain = Domain(
            lower=lower,
            upper=upper,
            center=torch.from_numpy(center),
            scale=torch.from_numpy(scale),
            integer=integer if self.integer else None,
            groups=tuple(groups),
        )
        return RowEncoder(domain, changeable if self.immutable else None, self._numeric_columns, self._categories)

    def _check_immutable(self) -> None:
        for column in self.immutable:
            if column not in {*self._numeric_columns, *self._categories}:
                raise DataError(
                    f"data.source.immutable={column}: the column is not a feature, so an adversary never sees it. Remove it, "
                    "or name it in data.source.numeric, integer or categorical."
                )

    @cached_property
    def _numeric_columns(self) -> list[str]:
        """Columns of numbers, including integers, in the order of the table."""
        others = {self.target, *self.categorical, *self.ignore}
        columns = self._parts[0].rows.columns
        chosen = set(columns) - others if self.numeric is None else {*self.numeric, *self.integer}
        return [column for column in columns if column in chosen]

    @cached_property
    def _categories(self) -> dict[str, list[str]]:
        """Sorted values of each column of categories in the training rows."""
        return {column: sorted(set(_texts(self._parts[0].rows[column]))) for column in self.categorical}

    @cached_property
    def _class_names(self) -> list[str]:
        return self.label_mapping.classes(self._labels(self._parts[0]), self._parts[0].name)

    def _groups(self) -> Iterator[tuple[int, int]]:
        """Yield the range of features of each column of categories, as (first, last + 1)."""
        first = len(self._numeric_columns)
        for values in self._categories.values():
            yield first, first + len(values)
            first += len(values)

    def _check_columns(self, frame: NamedFrame) -> None:
        if len(frame.rows) == 0:
            raise DataError(f"{frame.name} has no rows. Restore the file, or name another one.")
        named = {
            "target": [self.target],
            "numeric": self.numeric or [],
            **{key: getattr(self, key) for key in ("integer", "categorical", "immutable", "ignore")},
        }
        existing = [str(column) for column in frame.rows.columns]
        for key, columns in named.items():
            for column in columns:
                if column not in existing:
                    near = difflib.get_close_matches(column, existing, n=1)
                    hint = f"Did you mean {near[0]}?" if near else f"Its columns are {', '.join(existing)}."
                    raise DataError(f"data.source.{key}={column}: {frame.name} has no such column. {hint}")

    def _labels(self, frame: NamedFrame) -> list[str]:
        """Return the class name of each row."""
        values = _texts(frame.rows[self.target])
        if "" in values:
            raise _missing_value_error(frame, self.target, values.index(""))
        return self.label_mapping.names(values, frame.name)

    def _features(self, frame: NamedFrame) -> np.ndarray:
        """Return the features (N, F) float64: unscaled numbers, and 1 or 0 for each value of a category."""
        parts = [_numbers(frame, column, integer=column in self.integer)[:, None] for column in self._numeric_columns]
        for column, values in self._categories.items():
            texts = _texts(frame.rows[column])
            if "" in texts:
                raise _missing_value_error(frame, column, texts.index(""))
            parts.append(np.asarray(texts)[:, None] == np.asarray(values)[None])
        return np.concatenate(parts, axis=1).astype(np.float64)


class RowEncoder:
    """Encoder that standardizes rows and clamps them to the range of the training split; implements `Telling`.

    Args:
        domain: Scales and valid values of the features.
        changeable: 1 for features that an adversary may change and 0 for others, (1, F). None means all.
        numbers: Columns of numbers.
        categories: Values of each column of categories.
    """

    def __init__(
        self, domain: Domain, changeable: Tensor | None, numbers: Columns, categories: Mapping[str, Sequence[str]]
    ) -> None:
        self.domain, self.changeable = domain, changeable
        self.numbers, self.categories = numbers, categories

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in the order of their features."""
        return [*self.numbers, *self.categories]

    def __call__(self, x: np.ndarray) -> Tensor:
        return self.domain.encode(torch.from_numpy(x))

    def mask(self, x: Tensor) -> Tensor | None:
        return None if self.changeable is None else self.changeable.to(x.device)

    def decode(self, x: Tensor) -> list[list[str]]:
        # At least as precise as 1/1000 of the standard deviation: further decimal places are rounding noise of float32.
        places = [max(0, 3 - math.floor(math.log10(scale))) for scale in self.domain.scale[: len(self.numbers)].tolist()]
        rows = [
            [_format_number(value, digits) for value, digits in zip(row, places, strict=False)]
            for row in self.domain.decode(x).tolist()
        ]
        for (first, end), values in zip(self.domain.groups, self.categories.values(), strict=True):
            for row, one_hot in zip(rows, x[:, first:end].tolist(), strict=True):
                row.append(values[one_hot.index(1)] if 1 in one_hot else UNKNOWN)
        return rows

    def column_changes(self, x: Tensor, z: Tensor) -> Tensor:
        change = (z - x).abs()
        groups = [change[:, first:end].amax(1, keepdim=True) for first, end in self.domain.groups]
        return torch.cat([change[:, : len(self.numbers)], *groups], dim=1)


def _format_number(value: float, places: int) -> str:
    text = f"{round(value, places) + 0.0:.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def _texts(column: "pd.Series[Any]") -> list[str]:
    """Return the values of a column as text; missing values are empty."""
    return ["" if value is None or value != value else canonical_text(value) for value in column.tolist()]


def _numbers(frame: NamedFrame, column: str, *, integer: bool) -> np.ndarray:
    """Return a column as float64.

    Args:
        frame: Rows of the table.
        column: Name of the column.
        integer: Require integers.

    Raises:
        DataError: A value is missing, not a finite number, or not an integer where one is required.
    """
    values = pd.to_numeric(frame.rows[column], errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values) | (integer & (values != np.round(values)))
    if not bad.any():
        return values
    position = int(bad.argmax())
    text = _texts(frame.rows[column])[position]
    if text == "":
        raise _missing_value_error(frame, column, position)
    kind, key = ("an integer", "numeric") if np.isfinite(values[position]) else ("a finite number", "categorical or ignore")
    raise DataError(
        f"{frame.name}, row {frame.rows.index[position] + 1}: {column} is {text!r}, not {kind}. Correct it, or name the column "
        f"in data.source.{key}."
    )


def _missing_value_error(frame: NamedFrame, column: str, position: int) -> DataError:
    rows = frame.rows.index
    last = " (the last one; is the file complete?)" if rows[position] == rows.max() else ""
    return DataError(
        f"{frame.name}, row {rows[position] + 1}{last}: {column} is missing. Fill it in, remove the row, or name the column in "
        "data.source.ignore."
    )
