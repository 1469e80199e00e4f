"""The datamodule of every run: it splits, encodes and batches the data of one source."""

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
    """One split of a data set.

    Attributes:
        x: Inputs (N, ...): a tensor, or what the source loads until it is encoded.
        y: Labels (N,) int64.
    """

    x: Any
    y: Tensor


class DataModule(pl.LightningDataModule):
    """Train, validation and test splits of one source, batched by indexing tensors.

    The validation split is taken from the training set, stratified, and never augmented. The test split is used by the final
    evaluation only; Lightning gets no loader for it.

    Args:
        source: Object with a method `load` that returns `Arrays`.
        shape: Shape of one input, for which the model is built.
        classes: Number of classes.
        batch_size: Examples per training batch. Validation uses batches of up to 1,000.
        val_fraction: Fraction of the training set that is held out for validation.
        split_seed: Seed of the validation split. It is the same for all runs, so that seeds differ in training alone.
        train_size: Number of training examples to keep, stratified. None means all.
        test_size: Number of test examples to keep, stratified. None means all.
        class_weights: Relative sampling probability of an example of each class during training. "balanced" draws all classes
            equally often. None means each example once per epoch.
        seed: Seed of the run, which determines the order of the batches.
        repeats: Number of times that each training batch is given in a row.

    Raises:
        ValueError: `source` has no method `load`, or `class_weights` has another length than `classes`.
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
            raise ValueError(f"source: {type(source).__name__} has no method load(). Use a source of temper.data.sources.")
        self.source: Source = source  # type: ignore[assignment]  # checked above
        self.shape, self.classes = tuple(shape), classes
        self.batch_size, self.val_fraction, self.split_seed = batch_size, val_fraction, split_seed
        self.train_size, self.test_size, self.seed, self.repeats = train_size, test_size, seed, repeats
        self.class_weights = class_weights
        if class_weights not in (None, "balanced") and len(class_weights) != classes:
            raise ValueError(f"class_weights: got {len(class_weights)} weights for {classes} classes. Give one per class.")
        self._splits: dict[SplitName, Split] = {}
        self._encoder: Encoder | None = None

    def setup(self, stage: str | None = None) -> None:
        """Load and split the data, and encode it with an encoder fitted on the training split. Later calls do nothing.

        Args:
            stage: Unused; Lightning passes it.

        Raises:
            DataError: Files are missing, the inputs do not have `shape`, or a split lacks a class.
        """
        if self._splits:
            return
        arrays = self.source.load()
        full = Split(arrays.x_train, arrays.y_train)
        train, val = _stratified_split(full, self.val_fraction, self.split_seed, "data.val_fraction")
        splits: dict[SplitName, Split] = {
            "train": _subsample(train, self.train_size, self.split_seed, "data.train_size"),
            "val": val,
            "test": _subsample(Split(arrays.x_test, arrays.y_test), self.test_size, self.split_seed, "data.test_size"),
        }
        if isinstance(self.source, Fitting):
            self._encoder = encoder = self.source.fit(*splits["train"])
            splits = {name: Split(encoder(split.x), split.y) for name, split in splits.items()}
        if (shape := tuple(splits["train"].x.shape[1:])) != self.shape:
            raise DataError(f"data.shape={list(self.shape)}: the inputs have shape {list(shape)}. Set data.shape to it.")
        for name, split in splits.items():
            absent = sorted(set(range(self.classes)) - set(split.y.unique().tolist()))
            if absent:
                raise DataError(
                    f"data.classes={self.classes}: the {name} split has no example of class {', '.join(map(str, absent))}. "
                    "Add examples, or set data.classes to the number of classes."
                )
            if int(split.y.max()) >= self.classes:
                raise DataError(
                    f"data.classes={self.classes}: the {name} split has label {int(split.y.max())}. Labels start at 0; "
                    f"set data.classes to at least {int(split.y.max()) + 1}."
                )
        self._splits = splits

    def for_run(self, *, seed: int, repeats: int) -> Self:
        """Return a datamodule that shares these splits and has the order of batches of another run.

        Args:
            seed: Seed of that run.
            repeats: Number of times that each of its training batches is given in a row.
        """
        other = copy(self)
        other.seed, other.repeats = seed, repeats
        return other

    def split(self, name: SplitName) -> Split:
        """Return one split; load the data if needed."""
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
        sampling_weights: Tensor | None = None,
        repeats: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> Loader:
        """Build a loader of one split.

        Args:
            name: The split.
            batch_size: Examples per batch, over all devices.
            device: Device of the batches. The split is copied there once.
            seed: Seed of the order. None means the order of the data.
            size: Number of examples, from the first one. None means all.
            sampling_weights: Relative probability to draw each example, (N,). None means once per epoch each.
            repeats: Number of times that each batch is given in a row.
            rank: Index of this device.
            world_size: Number of devices.
        """
        x, y = (part[:size].to(device) for part in self.split(name))
        mask = None if self._encoder is None else self._encoder.mask
        return Loader(
            x,
            y,
            batch_size=batch_size,
            seed=seed,
            mask=mask,
            domain=self.domain,
            sampling_weights=sampling_weights,
            repeats=repeats,
            rank=rank,
            world_size=world_size,
        )

    @property
    def domain(self) -> Domain | None:
        """Valid values of the features, for rows of a table; None for other data."""
        self.setup()
        return self._encoder.domain if isinstance(self._encoder, Bounded) else None

    @property
    def encoder(self) -> Encoder | None:
        """Encoder of the inputs, or None if the source needs none."""
        self.setup()
        return self._encoder

    @property
    def steps_per_epoch(self) -> int:
        """Training batches per epoch, including repeats."""
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
            sampling_weights=self._sampling_weights(),
            repeats=self.repeats,
            rank=0 if trainer is None else trainer.global_rank,
            world_size=1 if trainer is None else trainer.world_size,
        )

    def _sampling_weights(self) -> Tensor | None:
        """Return the relative probability to draw each training example, (N,), or None for uniform sampling."""
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


def _stratified_split(split: Split, held_out: float | int, seed: int, key: str) -> tuple[Split, Split]:
    """Split the examples into two stratified parts.

    Args:
        split: Examples to split.
        held_out: Size of the second part: a fraction (float) or a number of examples (int).
        seed: Seed of the split.
        key: Config key that asks for the split, for error messages.

    Raises:
        DataError: A class has too few examples for both parts.
    """
    counts = split.y.bincount()
    if 1 in counts:
        raise DataError(
            f"{key}: class {int((counts == 1).nonzero()[0])} has one example, and both sides of the split need one. Add "
            "examples, remove the class, or merge it with another one."
        )
    try:
        kept, held = train_test_split(np.arange(len(split.y)), test_size=held_out, stratify=split.y.numpy(), random_state=seed)
    except ValueError as error:
        raise DataError(
            f"{key}: the data cannot be split with every class on both sides ({error}). Add examples, or change the size."
        ) from None
    return Split(split.x[kept], split.y[kept]), Split(split.x[held], split.y[held])


def _subsample(split: Split, size: int | None, seed: int, key: str) -> Split:
    """Return a stratified sample of `size` examples, or the whole split if `size` is None or not smaller than it."""
    if size is None or size >= len(split.y):
        return split
    return _stratified_split(split, size, seed, key)[1]
