"""Batches of a split that is held in memory on the device where it is used; there are no worker processes."""

from collections.abc import Callable, Iterator
from itertools import repeat

import torch
from torch import Tensor

from temper.data.batch import Batch
from temper.data.domain import Domain
from temper.data.sources import DataError
from temper.runs.seeding import generator


class Loader:
    """Iterable of the `Batch`es of one split.

    With a seed, the order of an epoch depends on (seed, epoch) alone: all cells of one seed get the same batches, and a
    resumed run gets the batches of an uninterrupted one. Without a seed, examples come in the order of the data.

    With sampling weights, an epoch draws as many examples as there are, with replacement. In expectation, training then
    minimizes the weighted risk, for every risk and penalty.

    Args:
        x: Inputs (N, ...): uint8 pixels, floats in their valid range, or int64 tokens.
        y: Labels (N,) int64.
        batch_size: Examples per batch, over all devices.
        seed: Seed of the order. None means the order of the data.
        mask: Function from inputs (B, ...) to the mask of an adversary (see `Batch`). None means that everything may change.
        domain: For rows of a table, the valid values of each feature.
        sampling_weights: Relative probability to draw each example, (N,). None means once per epoch each.
        repeats: Number of times that each batch is given in a row.
        rank: Index of this device. Each device gets its part of every batch.
        world_size: Number of devices.

    Raises:
        DataError: The last batch has fewer examples than there are devices.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        *,
        batch_size: int,
        seed: int | None = None,
        mask: Callable[[Tensor], Tensor | None] | None = None,
        domain: Domain | None = None,
        sampling_weights: Tensor | None = None,
        repeats: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if 0 < len(y) % batch_size < world_size:
            raise DataError(
                f"data.batch_size={batch_size}: the last batch of an epoch has {len(y) % batch_size} of {len(y)} examples for "
                f"{world_size} devices. Use data.batch_size={batch_size + 1} or {batch_size - 1}."
            )
        self.rank, self.world_size = rank, world_size
        self.x, self.y, self.mask = x, y, mask
        self.domain = None if domain is None else domain.to(y.device)
        self.sampling_weights, self.batch_size, self.repeats = sampling_weights, batch_size, repeats
        self.seed = seed
        self.epoch = 0
        # Lightning announces each epoch through `loader.sampler.set_epoch`.
        self.sampler, self.batch_sampler = self, None

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def subset(self, rows: Tensor) -> "Loader":
        """Return a loader of some examples, in the given order and with the same batch size.

        Args:
            rows: Indices of the examples, (n,) int64.
        """
        rows = rows.to(self.y.device)
        return Loader(self.x[rows], self.y[rows], batch_size=self.batch_size, mask=self.mask, domain=self.domain)

    def __len__(self) -> int:
        return -(-len(self.y) // self.batch_size) * self.repeats

    def __iter__(self) -> Iterator[Batch]:
        count = len(self.y)
        if self.seed is None:
            order = torch.arange(count)
        else:
            key = generator(self.seed, "order", self.epoch)
            if self.sampling_weights is None:
                order = torch.randperm(count, generator=key)
            else:
                order = self.sampling_weights.multinomial(count, replacement=True, generator=key)
        for indices in order.to(self.y.device).split(self.batch_size):
            index = indices[self.rank :: self.world_size]
            rank_weight = len(index) * self.world_size / len(indices)
            x, y = self.x[index], self.y[index]
            if x.dtype == torch.uint8:
                x = x.float().div_(255)
            mask = None if self.mask is None else self.mask(x)
            batch = Batch(x=x, y=y, target=y, index=index, mask=mask, domain=self.domain, rank_weight=rank_weight)
            yield from repeat(batch, self.repeats)
