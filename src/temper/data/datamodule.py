"""The one datamodule that all cells share."""

from collections.abc import Sequence
from copy import copy
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import pytorch_lightning as pl
import torch
from pydantic import Field
from sklearn.model_selection import train_test_split
from torch import Tensor

from temper.config.types import Count, Positive, checked
from temper.data.domain import Domain
from temper.data.loader import Loader
from temper.data.sources import Bounded, DataError, Encoder, Fitting, Source

SplitName = Literal["train", "val", "test"]


class Split(NamedTuple):
    """Inputs (N, ...) and labels (N,) of one split; a tensor, or until they are encoded what the source loads."""

    x: Any
    y: Tensor


class DataModule(pl.LightningDataModule):
    """Train, validation and test splits of one source, batched by indexing tensors.

    The validation split is carved out of the training set, stratified, by a seed of its own, and never augmented. The test
    split is for the final evaluation alone; Lightning gets no loader for it.

    Args:
        source: loads the arrays.
        shape: of one input, as the model is built for it.
        classes: number of classes.
        batch_size: of training; validation uses batches of up to 1,000.
        val_fraction: share of the training set that is held out for validation.
        split_seed: of the validation split, the same for every run so that seeds differ in training alone.
        train_size, test_size: keep only so many examples (stratified), None for all.
        class_weights: how often examples of each class are drawn for training, in any unit; "balanced": every class as often
            as any other; None: each example once an epoch.
        seed: the run's; decides the order of the batches.
        repeats: how often training is given each batch in a row.
    """

    @checked
    def __init__(
        self,
        *,
        source: object,
        shape: Sequence[int],
        classes: Annotated[int, Field(ge=2)],
        batch_size: Count = 128,
        val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2,
        split_seed: int = 0,
        train_size: Count | None = None,
        test_size: Count | None = None,
        class_weights: Literal["balanced"] | Sequence[Positive] | None = None,
        seed: int = 0,
        repeats: Count = 1,
    ) -> None:
        super().__init__()
        if not callable(getattr(source, "load", None)):
            raise ValueError(f"source: {type(source).__name__} has no method load()")
        self.source: Source = source  # type: ignore[assignment]  # checked above
        self.shape, self.classes = tuple(shape), classes
        self.batch_size, self.val_fraction, self.split_seed = batch_size, val_fraction, split_seed
        self.train_size, self.test_size, self.seed, self.repeats = train_size, test_size, seed, repeats
        self.class_weights = class_weights
        if class_weights not in (None, "balanced") and len(class_weights) != classes:
            raise ValueError(f"class_weights: there are {len(class_weights)} of them for {classes} classes")
        self._splits: dict[SplitName, Split] = {}
        self._encoder: Encoder | None = None

    def setup(self, stage: str | None = None) -> None:
        """Load, split, and encode by what the training split teaches, once.

        Raises:
            DataError: the files are missing, an input is not of `shape`, or a split lacks a class.
        """
        if self._splits:
            return
        arrays = self.source.load()
        train, val = _divide(Split(arrays.x_train, arrays.y_train), self.val_fraction, self.split_seed, "data.val_fraction")
        splits: dict[SplitName, Split] = {
            "train": _shorten(train, self.train_size, self.split_seed, "data.train_size"),
            "val": val,
            "test": _shorten(Split(arrays.x_test, arrays.y_test), self.test_size, self.split_seed, "data.test_size"),
        }
        if isinstance(self.source, Fitting):
            self._encoder = encoder = self.source.fit(*splits["train"])
            splits = {name: Split(encoder(split.x), split.y) for name, split in splits.items()}
        if (found := tuple(splits["train"].x.shape[1:])) != self.shape:
            raise DataError(f"data.shape is {list(self.shape)}, but the inputs are {list(found)}")
        for name, split in splits.items():
            absent = sorted(set(range(self.classes)) - set(split.y.unique().tolist()))
            if absent:
                raise DataError(f"the {name} split has no example of class {', '.join(map(str, absent))}")
            if int(split.y.max()) >= self.classes:
                raise DataError(f"data.classes is {self.classes}, but the {name} split has label {int(split.y.max())}")
        self._splits = splits

    def ordered(self, *, seed: int, repeats: int) -> Self:
        """The same splits, in the order of batches of another run."""
        other = copy(self)
        other.seed, other.repeats = seed, repeats
        return other

    def split(self, name: SplitName) -> Split:
        self.setup()
        return self._splits[name]

    def loader(
        self,
        name: SplitName,
        *,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        size: int | None = None,
        chances: Tensor | None = None,
        repeats: int = 1,
        rank: int = 0,
        ranks: int = 1,
    ) -> Loader:
        """Batches of a split, or of its first `size` examples, born on `device`; in the data's order unless a seed is given."""
        x, y = (part[:size].to(device) for part in self.split(name))
        mask = None if self._encoder is None else self._encoder.mask
        return Loader(
            x,
            y,
            batch_size=batch_size,
            seed=seed,
            mask=mask,
            domain=self.domain,
            chances=chances,
            repeats=repeats,
            rank=rank,
            ranks=ranks,
        )

    @property
    def domain(self) -> Domain | None:
        """Of the rows of a table, what their features may be."""
        self.setup()
        return self._encoder.domain if isinstance(self._encoder, Bounded) else None

    @property
    def encoder(self) -> Encoder | None:
        """What the inputs were encoded by; None: by nothing."""
        self.setup()
        return self._encoder

    @property
    def steps_per_epoch(self) -> int:
        return len(self._train_loader("cpu"))

    def train_dataloader(self) -> Loader:
        return self._train_loader(self._device)

    def _train_loader(self, device: torch.device | str) -> Loader:
        trainer = self.trainer
        return self.loader(
            "train",
            batch_size=self.batch_size,
            device=device,
            seed=self.seed,
            chances=self._chances(),
            repeats=self.repeats,
            rank=0 if trainer is None else trainer.global_rank,
            ranks=1 if trainer is None else trainer.world_size,
        )

    def _chances(self) -> Tensor | None:
        """How likely each training example is to be drawn, (N,), in any unit."""
        if self.class_weights is None:
            return None
        y = self.split("train").y
        weights = y.bincount().reciprocal() if self.class_weights == "balanced" else torch.tensor(self.class_weights)
        return weights[y].double()

    def val_dataloader(self) -> Loader:
        return self.loader("val", batch_size=1000, device=self._device)

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")


def _divide(split: Split, held_out: float | int, seed: int, key: str) -> tuple[Split, Split]:
    """Two stratified parts of a split; the second holds a share (float) or a number (int) of its examples."""
    counts = split.y.bincount()
    if 1 in counts:
        raise DataError(
            f"{key}: class {int((counts == 1).nonzero()[0])} has one example, and both sides need one: bring more, leave the "
            "class out, or make it part of another one"
        )
    try:
        kept, held = train_test_split(np.arange(len(split.y)), test_size=held_out, stratify=split.y.numpy(), random_state=seed)
    except ValueError as error:
        raise DataError(f"{key}: the data cannot be split with every class on both sides ({error})") from None
    return Split(split.x[kept], split.y[kept]), Split(split.x[held], split.y[held])


def _shorten(split: Split, size: int | None, seed: int, key: str) -> Split:
    """A stratified part with `size` examples; all of them where size is None or no smaller than the split."""
    if size is None or size >= len(split.y):
        return split
    return _divide(split, size, seed, key)[1]
