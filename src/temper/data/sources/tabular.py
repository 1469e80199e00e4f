"""Rows of a table: numbers, integers and categories, scaled by what the training split teaches."""

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
from temper.data.sources.labels import Naming, Value, as_text, held_out

Columns = Sequence[str]
UNKNOWN = "<unknown>"  # a category that the rows for training lack


class Frame(NamedTuple):
    """Rows as they were read, and the name of the place that they come from, for messages."""

    rows: pd.DataFrame
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
        self.target, self.naming = target, Naming(target, positive, negative)
        self.numeric, self.integer, self.categorical = numeric, list(integer), list(categorical)
        self.immutable, self.ignore, self.test_fraction = list(immutable), list(ignore), test_fraction
        self.content = content
        named = [target, *(numeric or ()), *self.integer, *self.categorical, *self.ignore]
        if twice := sorted({column for column in named if named.count(column) > 1}):
            raise ValueError(f"{', '.join(twice)}: a column is one of target, numeric, integer, categorical and ignore")

    @abstractmethod
    def frames(self) -> tuple[Frame, Frame | None]:
        """The rows, read anew: all that are there, or those for training and those for the test."""

    @cached_property
    def _parts(self) -> tuple[Frame, Frame]:
        """Rows for training and for the test."""
        train, test = self.frames()
        for frame in (train, test):
            if frame is not None:
                self._check_columns(frame)
        if test is not None:
            return train, test
        kept, held = held_out(self._labels(train), self.test_fraction, f"{train.name}, {self.target}")
        return Frame(train.rows.iloc[kept], train.name), Frame(train.rows.iloc[held], train.name)

    @cached_property
    def classes(self) -> int:
        """How many there are."""
        return len(self._names)

    @property
    def shape(self) -> tuple[int]:
        """Of one row."""
        return (len(self._numbers) + sum(map(len, self._categories.values())),)

    def load(self) -> Arrays:
        self._check_immutable()
        train, test = self._parts
        y_train, y_test = (
            torch.tensor(self.naming.numbers(self._labels(part), self._names, part.name)) for part in (train, test)
        )
        return Arrays(self._features(train), y_train, self._features(test), y_test)

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
        return Rows(domain, changeable if self.immutable else None, self._numbers, self._categories)

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
        columns = self._parts[0].rows.columns
        chosen = set(columns) - others if self.numeric is None else {*self.numeric, *self.integer}
        return [column for column in columns if column in chosen]

    @cached_property
    def _categories(self) -> dict[str, list[str]]:
        """Values of each column of names that rows for training have."""
        return {column: sorted(set(_texts(self._parts[0].rows[column]))) for column in self.categorical}

    @cached_property
    def _names(self) -> list[str]:
        """Of the classes."""
        return self.naming.classes(self._labels(self._parts[0]), self._parts[0].name)

    def _groups(self) -> Iterator[tuple[int, int]]:
        first = len(self._numbers)
        for values in self._categories.values():
            yield first, first + len(values)
            first += len(values)

    def _check_columns(self, frame: Frame) -> None:
        if len(frame.rows) == 0:
            raise DataError(f"{frame.name} has no rows: bring the whole file, or name another one")
        named = {
            "target": [self.target],
            "numeric": self.numeric or [],
            **{key: getattr(self, key) for key in ("integer", "categorical", "immutable", "ignore")},
        }
        there = [str(column) for column in frame.rows.columns]
        for key, columns in named.items():
            for column in columns:
                if column not in there:
                    near = difflib.get_close_matches(column, there, n=1)
                    raise DataError(
                        f"data.source.{key}: {frame.name} has no column {column}"
                        + (f"; did you mean {near[0]}?" if near else f"; its columns are {', '.join(there)}")
                    )

    def _labels(self, frame: Frame) -> list[str]:
        """The class of each row, by its name."""
        values = _texts(frame.rows[self.target])
        if "" in values:
            raise _empty(frame, self.target, values.index(""))
        return self.naming(values, frame.name)

    def _features(self, frame: Frame) -> np.ndarray:
        """(N, F) float64: numbers as they are, and 1 or 0 for each value of a category."""
        parts = [_numbers(frame, column, whole=column in self.integer)[:, None] for column in self._numbers]
        for column, values in self._categories.items():
            texts = _texts(frame.rows[column])
            if "" in texts:
                raise _empty(frame, column, texts.index(""))
            parts.append(np.asarray(texts)[:, None] == np.asarray(values)[None])
        return np.concatenate(parts, axis=1).astype(np.float64)


class Rows:
    """Standardizes rows by the training split; what is further out than that is set to the end of its range."""

    def __init__(
        self, domain: Domain, changeable: Tensor | None, numbers: Columns, categories: Mapping[str, Sequence[str]]
    ) -> None:
        self.domain, self.changeable = domain, changeable
        self.numbers, self.categories = numbers, categories

    @property
    def columns(self) -> list[str]:
        return [*self.numbers, *self.categories]

    def __call__(self, x: np.ndarray) -> Tensor:
        return self.domain.encode(torch.from_numpy(x))

    def mask(self, x: Tensor) -> Tensor | None:
        return None if self.changeable is None else self.changeable.to(x.device)

    def tell(self, x: Tensor) -> list[list[str]]:
        # As exact as a thousandth of the spread or better: further digits are those of the network's precision.
        digits = [max(0, 3 - math.floor(math.log10(scale))) for scale in self.domain.scale[: len(self.numbers)].tolist()]
        rows = [
            [_told(value, places) for value, places in zip(row, digits, strict=False)] for row in self.domain.decode(x).tolist()
        ]
        for (first, behind), values in zip(self.domain.groups, self.categories.values(), strict=True):
            for told, own in zip(rows, x[:, first:behind].tolist(), strict=True):
                told.append(values[own.index(1)] if 1 in own else UNKNOWN)
        return rows

    def moved(self, x: Tensor, z: Tensor) -> Tensor:
        change = (z - x).abs()
        groups = [change[:, first:behind].amax(1, keepdim=True) for first, behind in self.domain.groups]
        return torch.cat([change[:, : len(self.numbers)], *groups], dim=1)


def _told(value: float, places: int) -> str:
    text = f"{round(value, places) + 0.0:.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def _texts(column: "pd.Series[Any]") -> list[str]:
    """A value that is missing is empty."""
    return ["" if value is None or value != value else as_text(value) for value in column.tolist()]


def _numbers(frame: Frame, column: str, *, whole: bool) -> np.ndarray:
    """A column as float64.

    Raises:
        DataError: a value is missing, no number or not finite, or not whole where it should be.
    """
    values = pd.to_numeric(frame.rows[column], errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values) | (whole & (values != np.round(values)))
    if not bad.any():
        return values
    place = int(bad.argmax())
    found = _texts(frame.rows[column])[place]
    if found == "":
        raise _empty(frame, column, place)
    kind, key = ("whole number", "numeric") if np.isfinite(values[place]) else ("finite number", "categorical or ignore")
    raise DataError(
        f"{frame.name}, row {frame.rows.index[place] + 1}: {column} is {found!r}, which is no {kind}; correct it, or name the "
        f"column in data.source.{key}"
    )


def _empty(frame: Frame, column: str, place: int) -> DataError:
    rows = frame.rows.index
    last = " (the last one: was the file cut short?)" if rows[place] == rows.max() else ""
    return DataError(
        f"{frame.name}, row {rows[place] + 1}{last}: {column} is missing; fill it in or leave the row out, or name the column "
        "in data.source.ignore"
    )
