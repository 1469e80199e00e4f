"""A loader without worker processes: the split lies in memory on the device where it is used, and a batch is an index."""

from collections.abc import Callable, Iterator
from itertools import repeat

import torch
from torch import Tensor

from temper.data.batch import Batch
from temper.data.domain import Domain
from temper.data.sources import DataError
from temper.runs.seeding import generator


class Loader:
    """Yields `Batch`es of one split.

    With a seed the order of an epoch depends on (seed, epoch) alone, so every cell of that seed sees the same batches and
    a resumed run goes on as if it had never stopped. Without one the order is that of the data.

    Where examples have chances, an epoch draws as many as there are, each time from all of them: what it minimizes is on
    average the risk with these weights, whichever risk and penalties that is.

    Args:
        x: (N, ...) inputs: uint8 pixels, floats in their valid range, or int64 tokens.
        y: (N,) int64 labels.
        mask: of inputs (B, ...), what an adversary may change (see `Batch`); None: everything.
        domain: of the rows of a table, what each feature may be.
        chances: how likely each example is to be drawn, (N,) in any unit; None: each is given once an epoch.
        repeats: how often each batch is given in a row.
        rank, ranks: which part of each batch is given, of how many; together the parts are the batch.
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
        chances: Tensor | None = None,
        repeats: int = 1,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if 0 < len(y) % batch_size < ranks:
            raise DataError(
                f"data.batch_size: the last batch of {len(y)} examples would have {len(y) % batch_size} of them for {ranks} "
                f"devices; {batch_size + 1} or {batch_size - 1} leave another rest"
            )
        self.rank, self.ranks = rank, ranks
        self.x, self.y, self.mask = x, y, mask
        self.domain = None if domain is None else domain.to(y.device)
        self.chances, self.batch_size, self.repeats = chances, batch_size, repeats
        self.seed = seed
        self.epoch = 0
        # Lightning announces each epoch through `loader.sampler.set_epoch`.
        self.sampler, self.batch_sampler = self, None

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def only(self, rows: Tensor) -> "Loader":
        """These examples alone, (n,) int64, in this order and in batches of the same size."""
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
            if self.chances is None:
                order = torch.randperm(count, generator=key)
            else:
                order = self.chances.multinomial(count, replacement=True, generator=key)
        for whole in order.to(self.y.device).split(self.batch_size):
            index = whole[self.rank :: self.ranks]
            share = len(index) * self.ranks / len(whole)
            x, y = self.x[index], self.y[index]
            if x.dtype == torch.uint8:
                x = x.float().div_(255)
            mask = None if self.mask is None else self.mask(x)
            batch = Batch(x=x, y=y, target=y, index=index, mask=mask, domain=self.domain, share=share)
            yield from repeat(batch, self.repeats)
