"""What a data set must offer: arrays, and what is learned from its training split alone before a network sees them."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from temper.data.domain import Domain


class DataError(ValueError):
    """The data is missing or not what it should be; the message says where it was looked for and what to do."""


class Arrays(NamedTuple):
    """A data set in memory.

    Attributes:
        x_train, x_test: inputs (N, ...) as uint8 pixels or floats in their valid range; of a source that fits an encoder,
            whatever that takes and an array of row numbers can index, such as a numpy array of texts.
        y_train, y_test: labels (N,) int64.
    """

    x_train: Any
    y_train: Tensor
    x_test: Any
    y_test: Tensor


class Measured(NamedTuple):
    """What a config needs to know of files that only they can tell, of a source with a method `measure`.

    Attributes:
        shape: of one input.
        classes: how many.
        content: a digest that stands for the data wherever they lie: with others it is another run.
    """

    shape: tuple[int, ...]
    classes: int
    content: str


class Source(Protocol):
    """Anything with this method can stand in a config as `data.source`."""

    def load(self) -> Arrays: ...


class Encoder(Protocol):
    """From what a source loads to what a network takes."""

    def __call__(self, x: Any) -> Tensor:
        """(N, ...) as loaded -> (N, ...) inputs: uint8 pixels, int64 tokens, or floats."""

    def mask(self, x: Tensor) -> Tensor | None:
        """Of inputs (B, ...): 1 where an adversary may change them, 0 where not, broadcastable to `net.lift(x)`; None: all."""


@runtime_checkable
class Bounded(Protocol):
    """An encoder of the rows of a table, which knows what their features may be."""

    domain: Domain


@runtime_checkable
class Telling(Bounded, Protocol):
    """One that tells what its rows (B, F) say in the table's own terms.

    Attributes:
        columns: of the table, in the order of their features.
    """

    columns: Sequence[str]

    def tell(self, x: Tensor) -> list[list[str]]:
        """The value of each column, in each of B rows."""

    def moved(self, x: Tensor, z: Tensor) -> Tensor:
        """How far each column went from rows x to rows z, (B, columns), in units of its spread; 1 for another category."""


@runtime_checkable
class Spelling(Protocol):
    """An encoder of texts, which tells their words from their tokens (B, L) and tokens from words.

    Attributes:
        unknown: what is read where a word is not known.
    """

    unknown: str

    def split(self, x: Tensor) -> list[list[str]]:
        """The words and marks of each text, with the blanks before them where these matter."""

    def join(self, texts: Sequence[Sequence[str]]) -> Tensor:
        """Tokens (B, L) of what was split; they are the same again, save for the last word of a text that was cut within it."""

    def knows(self, word: str) -> bool:
        """Whether it has a token, or several."""

    def read(self, x: Tensor) -> list[str]:
        """B texts."""


@runtime_checkable
class Fitting(Protocol):
    """A source whose inputs are encoded by what the training split alone teaches: scales of features, a vocabulary."""

    def fit(self, x: Any, y: Tensor) -> Encoder: ...
