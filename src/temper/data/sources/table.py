"""Rows of a table: numbers, integers and categories, scaled by what the training split teaches."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from temper.arguments import Probability, checked
from temper.data.domain import Domain
from temper.data.sources.source import Arrays, DataError

Value = str | int | float | bool
Columns = Sequence[str]


class Frames(NamedTuple):
    """Rows as they were read.

    Attributes:
        train: every row that is there, or those for training where others are for the test.
        test: rows for the test; None: some of `train` are held out.
        name: of the place that they come from, for messages.
    """

    train: pd.DataFrame
    test: pd.DataFrame | None
    name: str


class Table(ABC):
    """Rows (N, F) of numbers, then of categories, of which each value is a feature: 1 for the one that a row has, else 0.

    A category that the rows for training lack has no feature: a row of it is 0 in all features of its column.

    Args:
        target: column of the labels.
        positive: values of the target that are class 1, every other one is class 0.
        negative: likewise, values that are class 0. Neither: every value is a class, in their order as text.
        numeric: columns of numbers; None: every column that no other setting names.
        integer: columns of whole numbers, which stay whole under an attack.
        categorical: columns of names.
        immutable: columns that an adversary cannot change.
        ignore: columns that are left out.
        test_fraction: share of the rows that are held out for the test where none are given: stratified, the same for all
            runs, whatever the order of the rows.
        content: a digest of the rows, so that a run with others is another one.
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
        if positive is not None and negative is not None:
            raise ValueError("positive: name the values of one class, positive or negative")
        self.target, self.positive, self.negative = target, _texts(positive), _texts(negative)
        self.numeric, self.integer, self.categorical = numeric, list(integer), list(categorical)
        self.immutable, self.ignore, self.test_fraction = list(immutable), list(ignore), test_fraction
        self.content = content
        named = [target, *(numeric or ()), *self.integer, *self.categorical, *self.ignore]
        if twice := sorted({column for column in named if named.count(column) > 1}):
            raise ValueError(f"{', '.join(twice)}: a column is one of target, numeric, integer, categorical and ignore")

    @abstractmethod
    def frames(self) -> Frames:
        """The rows, read anew."""

    @cached_property
    def _parts(self) -> tuple[pd.DataFrame, pd.DataFrame, str]:
        """Rows for training and for the test."""
        train, test, name = self.frames()
        if len(train) == 0:
            raise DataError(f"{name} has no rows")
        self._check_columns(train, name)
        if test is not None:
            self._check_columns(test, name)
            return train, test, name
        labels = self._labels(train, name)
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
            if count < 3:
                raise DataError(
                    f"{name}: class {label} of {self.target} has {count} row(s), and training, validation and test need one "
                    "each: bring more, or make it part of another class by data.source.positive"
                )
        rows = train_test_split(np.arange(len(train)), test_size=self.test_fraction, stratify=labels, random_state=0)
        return (*(train.iloc[part] for part in rows), name)

    @cached_property
    def classes(self) -> int:
        """How many there are."""
        return len(self._names)

    @property
    def shape(self) -> tuple[int]:
        """Of one row."""
        return (len(self._numbers) + sum(map(len, self._categories.values())),)

    def load(self) -> Arrays:
        train, test, name = self._parts
        self._check_immutable()
        names = {label: number for number, label in enumerate(self._names)}
        labels = [self._labels(part, name) for part in (train, test)]
        if unknown := sorted(set(labels[1]) - set(names)):
            raise DataError(f"{name}: {self.target} is {', '.join(unknown)} in rows for the test alone")
        y_train, y_test = (torch.tensor([names[label] for label in part]) for part in labels)
        x_train, x_test = (self._features(part, name) for part in (train, test))
        return Arrays(x_train, y_train, x_test, y_test)

    def fit(self, x: Any, y: Tensor) -> "Rows":
        """Scales and ranges of the numbers of these rows, (N, F) float64."""
        count = len(self._numbers)
        centre, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
        centre[:count], scale[:count] = x[:, :count].mean(0), x[:, :count].std(0)
        scale[scale == 0] = 1  # a feature that never changes
        # Of a category: a row for which training has no value is 0 everywhere.
        lowest, highest = x.min(0), x.max(0)
        lowest[count:] = 0
        ends = [torch.from_numpy((end - centre) / scale).float() for end in (lowest, highest)]
        groups, whole = list(self._groups()), torch.zeros(x.shape[1], dtype=torch.bool)
        changeable = torch.ones(1, x.shape[1])
        for place, column in enumerate(self._numbers):
            whole[place] = column in self.integer
            changeable[0, place] = column not in self.immutable
        for column, group in zip(self._categories, groups, strict=True):
            changeable[0, slice(*group)] = column not in self.immutable
        domain = Domain(
            lower=ends[0],
            upper=ends[1],
            centre=torch.from_numpy(centre),
            scale=torch.from_numpy(scale),
            whole=whole if self.integer else None,
            groups=tuple(groups),
        )
        return Rows(domain, changeable if self.immutable else None)

    def _check_immutable(self) -> None:
        for column in self.immutable:
            if column not in {*self._numbers, *self._categories}:
                raise DataError(
                    f"data.source.immutable: {column} is no feature, and no adversary sees it; take it out, or name it in "
                    "data.source.numeric, integer or categorical"
                )

    @cached_property
    def _numbers(self) -> list[str]:
        """Columns of numbers, whole ones among them, in the order of the table."""
        others = {self.target, *self.categorical, *self.ignore}
        chosen = set(self._parts[0].columns) - others if self.numeric is None else {*self.numeric, *self.integer}
        return [column for column in self._parts[0].columns if column in chosen]

    @cached_property
    def _categories(self) -> dict[str, list[str]]:
        """Values of each column of names that rows for training have."""
        return {column: sorted(set(_as_text(self._parts[0][column]))) for column in self.categorical}

    @cached_property
    def _names(self) -> list[str]:
        """Of the classes."""
        return sorted(set(self._labels(self._parts[0], self._parts[2])))

    def _groups(self) -> Iterator[tuple[int, int]]:
        first = len(self._numbers)
        for values in self._categories.values():
            yield first, first + len(values)
            first += len(values)

    def _check_columns(self, frame: pd.DataFrame, name: str) -> None:
        named = {
            "target": [self.target],
            "numeric": self.numeric or [],
            **{key: getattr(self, key) for key in ("integer", "categorical", "immutable", "ignore")},
        }
        there = [str(column) for column in frame.columns]
        for key, columns in named.items():
            for column in columns:
                if column not in there:
                    near = difflib.get_close_matches(column, there, n=1)
                    raise DataError(
                        f"data.source.{key}: {name} has no column {column}"
                        + (f"; did you mean {near[0]}?" if near else f"; its columns are {', '.join(there)}")
                    )

    def _labels(self, frame: pd.DataFrame, name: str) -> list[str]:
        """The class of each row, by its name."""
        labels = _as_text(frame[self.target])
        if "" in labels:
            raise _empty(frame, self.target, labels.index(""), name)
        chosen = self.positive or self.negative
        if not chosen:
            return labels
        key = "positive" if self.positive else "negative"
        if absent := sorted(set(chosen) - set(labels)):
            some = ", ".join(sorted(set(labels))[:10])
            raise DataError(f"data.source.{key}: {self.target} of {name} is never {', '.join(absent)}; it is {some}")
        return [str(int((label in chosen) == (key == "positive"))) for label in labels]

    def _features(self, frame: pd.DataFrame, name: str) -> np.ndarray:
        """(N, F) float64: numbers as they are, and 1 or 0 for each value of a category."""
        numbers = [_numbers(frame, column, name, whole=column in self.integer) for column in self._numbers]
        parts = [column[:, None] for column in numbers]
        for column, values in self._categories.items():
            texts = _as_text(frame[column])
            if "" in texts:
                raise _empty(frame, column, texts.index(""), name)
            parts.append(np.asarray(texts)[:, None] == np.asarray(values)[None])
        return np.concatenate(parts, axis=1).astype(np.float64)


class Rows:
    """Standardizes rows by the training split; what is further out than that is set to the end of its range."""

    def __init__(self, domain: Domain, changeable: Tensor | None) -> None:
        self.domain, self.changeable = domain, changeable

    def __call__(self, x: np.ndarray) -> Tensor:
        return self.domain.encode(torch.from_numpy(x))

    def mask(self, x: Tensor) -> Tensor | None:
        return None if self.changeable is None else self.changeable.to(x.device)


def _texts(values: Value | Sequence[Value] | None) -> list[str]:
    if values is None:
        return []
    return [_text(value) for value in ([values] if isinstance(values, Value) else values)]


def _text(value: object) -> str:
    """1, 1.0 and "1" are the same."""
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value).strip()


def _as_text(column: "pd.Series[Any]") -> list[str]:
    """A value that is missing is empty."""
    return ["" if value is None or value != value else _text(value) for value in column.tolist()]


def _numbers(frame: pd.DataFrame, column: str, name: str, *, whole: bool) -> np.ndarray:
    """A column as float64.

    Raises:
        DataError: a value is missing, no number or not finite, or not whole where it should be.
    """
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values) | (whole & (values != np.round(values)))
    if not bad.any():
        return values
    place = int(bad.argmax())
    found = _as_text(frame[column])[place]
    if found == "":
        raise _empty(frame, column, place, name)
    kind, key = ("whole number", "numeric") if np.isfinite(values[place]) else ("finite number", "categorical or ignore")
    raise DataError(
        f"{name}, row {frame.index[place] + 1}: {column} is {found!r}, which is no {kind}; correct it, or name the column in "
        f"data.source.{key}"
    )


def _empty(frame: pd.DataFrame, column: str, place: int, name: str) -> DataError:
    last = " (the last one: was the file cut short?)" if frame.index[place] == frame.index.max() else ""
    return DataError(
        f"{name}, row {frame.index[place] + 1}{last}: {column} is missing; fill it in or leave the row out, or name the column "
        "in data.source.ignore"
    )
