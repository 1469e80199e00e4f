"""Interfaces of a data set: the source that loads its arrays, and the encoder that is fitted on the training split."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from temper.data.domain import Domain


class DataError(ValueError):
    """Raised when data is missing or invalid; the message names the file or key and the fix."""


class Arrays(NamedTuple):
    """A data set in memory.

    Attributes:
        x_train: Inputs for training and validation, (N, ...): uint8 pixels, or floats in their valid range. A source that
            fits an encoder may return anything that the encoder takes and that an array of row numbers can index, such as a
            numpy array of texts.
        y_train: Labels (N,) int64.
        x_test: Inputs of the test split, as `x_train`.
        y_test: Labels of the test split.
    """

    x_train: Any
    y_train: Tensor
    x_test: Any
    y_test: Tensor


class DatasetInfo(NamedTuple):
    """Properties of a data set that only its files know, returned by the method `measure` of sources that have one.

    Attributes:
        shape: Shape of one input.
        classes: Number of classes.
        content: Digest of the data, independent of where the files are. It is a part of the cell's identity.
    """

    shape: tuple[int, ...]
    classes: int
    content: str


class Source(Protocol):
    """A data set that a config can name as `data.source`."""

    def load(self) -> Arrays:
        """Load the data set.

        Raises:
            DataError: Files are missing or invalid.
        """


class Encoder(Protocol):
    """Converter from the inputs that a source loads to those that a network takes."""

    def __call__(self, x: Any) -> Tensor:
        """Encode loaded inputs (N, ...) as uint8 pixels, int64 tokens or floats, (N, ...)."""

    def mask(self, x: Tensor) -> Tensor | None:
        """Return 1 where an adversary may change the inputs x (B, ...) and 0 elsewhere; None means everywhere.

        The result is broadcastable to `net.lift(x)`.
        """


@runtime_checkable
class Bounded(Protocol):
    """An encoder of table rows that knows the valid values of their features."""

    domain: Domain


@runtime_checkable
class Telling(Bounded, Protocol):
    """An encoder of table rows that can decode them into the table's own values.

    Attributes:
        columns: Names of the columns, in the order of their features.
    """

    columns: Sequence[str]

    def decode(self, x: Tensor) -> list[list[str]]:
        """Return the value of each column as text, for rows (B, F)."""

    def column_changes(self, x: Tensor, z: Tensor) -> Tensor:
        """Return how far each column moved from rows x to rows z, both (B, F).

        Returns:
            Distances (B, columns): in units of the column's standard deviation, and 1 for another category.
        """


@runtime_checkable
class Spelling(Protocol):
    """An encoder of texts that converts between tokens and words.

    Attributes:
        unknown: Text of an unknown word.
    """

    unknown: str

    def split(self, x: Tensor) -> list[list[str]]:
        """Return the words and punctuation marks of each text, for tokens (B, L), with preceding blanks where they matter."""

    def join(self, texts: Sequence[Sequence[str]]) -> Tensor:
        """Encode split texts as tokens (B, L).

        It inverts `split`, except for the last word of a text that was cut within that word.
        """

    def knows(self, word: str) -> bool:
        """Return True if the word has one or several tokens."""

    def decode(self, x: Tensor) -> list[str]:
        """Return the B texts of tokens (B, L)."""


@runtime_checkable
class Fitting(Protocol):
    """A source whose inputs need an encoder that is fitted on the training split alone: feature scales, or a vocabulary."""

    def fit(self, x: Any, y: Tensor) -> Encoder:
        """Fit an encoder on the inputs (N, ...) and labels (N,) of the training split."""
