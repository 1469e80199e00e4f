"""Square: random search that asks the network for its logits alone."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from temper.arguments import Count, Positive, Probability, checked
from temper.attacks.ascent import where_example
from temper.attacks.filling import Filling
from temper.attacks.losses import margin
from temper.attacks.probing import probing
from temper.attacks.threat import Threat, per_example
from temper.attacks.windows import Changes, draw, signs
from temper.data.batch import Batch
from temper.models.network import Network

# Queries, as published for 10,000 of them, after which the changed share of the input is halved.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
DRAWN = 100  # queries at once


class Square(Filling):
    """Andriushchenko et al. 2020 (https://arxiv.org/abs/1912.00049): random changes that lower the margin are kept.

    A gradient that is masked misleads every attack but this kind. On images, (B, C, H, W), a square window is changed at a
    time, each channel in one direction; on other inputs a random set of features. Under linf a change is +eps or -eps. Under l2
    the window takes over the budget of a second one, and a pair of bumps is added to it; under l1 likewise.

    Most queries get no further. Where few examples still stand, several queries of each are asked at once, all from the same
    point; the first that gets further counts, and those behind it are asked again from there. A query that would change nothing
    is not asked at all. So an example comes to the point to which it would have come query by query.

    Args:
        threat: the set that x' stays in.
        eps: another radius than the threat's.
        queries: for each example that stands.
        share: of the input that is changed at first.
    """

    @checked
    def __init__(self, *, threat: Threat, eps: Positive | None = None, queries: Count = 5000, share: Probability = 0.8) -> None:
        super().__init__()
        self.threat = threat.at(eps)
        self.queries, self.share = queries, share

    def perturb(self, net: Network, batch: Batch, rows: int | None = None) -> Tensor:
        rows = len(batch) if rows is None else rows
        with probing(net, "eval"), torch.no_grad():
            z = net.lift(batch.x).detach()
            search = _Search(net, batch, z)
            search.begin(self.threat.project(z + self._stripes(z), z))
            for share, count in self._blocks():
                search.go(draw(self.threat, z, share, DRAWN), count, rows)
                if not search.standing.any():
                    break
            return self.threat.finish(search.x.view_as(z), z)

    def _stripes(self, z: Tensor) -> Tensor:
        """The start: vertical stripes of random sign, each channel its own, as long as the radius allows."""
        stripes = signs((*z.shape[:2], 1, z.shape[3]) if z.ndim == 4 else z.shape, z).expand_as(z)
        return stripes * per_example(self.threat.eps / self.threat.length(stripes), z)

    def _blocks(self) -> Iterator[tuple[float, int]]:
        """The changed share of the input, and for how many queries, DRAWN at most; the start is the first query of all."""
        edges = [0, *HALVINGS, max(self.queries, *HALVINGS)]
        for halved, (before, last) in enumerate(pairwise(edges)):
            for query in range(before + 1, min(last + 1, self.queries), DRAWN):
                yield self.share / 2**halved, min(DRAWN, last + 1 - query, self.queries - query)


class _Search:
    """How far each example of a batch has come.

    Attributes:
        x: the best points, (B, C, S) as `Changes` takes them.
        lowest: their margins, (B,): negative while an example stands.
    """

    def __init__(self, net: Network, batch: Batch, z: Tensor) -> None:
        self.net, self.y, self.shape = net, batch.y, z.shape[1:]
        self.z = self._flat(z)
        self.x = self.z.clone()
        self.mask = None if batch.mask is None else self._flat(batch.mask.expand_as(z))
        self.lowest = self._margin(self.z, self.y)

    @property
    def standing(self) -> Tensor:
        return self.lowest < 0

    def begin(self, start: Tensor) -> None:
        """Ask for the first point of every example."""
        tried = self._allowed(self._flat(start), torch.arange(len(self.z), device=self.z.device))
        loss = self._margin(tried, self.y)
        better = self.standing & (loss > self.lowest)
        self.x = where_example(better, tried, self.x)
        self.lowest = torch.where(better, loss, self.lowest)

    def go(self, changes: Changes, count: int, rows: int) -> None:
        """Ask so many queries for each example that stands, with at most so many rows at once."""
        following = torch.zeros_like(self.y)
        while len(now := (self.standing & (following < count)).nonzero().squeeze(1)):
            width = max(1, min(rows // len(now), count))
            # The next queries that change anything, (width, n); `count` where there are no more.
            waiting = changes.useful(self.x[now], self.z[now])[:count]
            waiting &= torch.arange(count, device=now.device)[:, None] >= following[now]
            query = (waiting.cumsum(0) <= torch.arange(width, device=now.device)[:, None, None]).sum(1)
            following[now] = self._ask(now, changes, query, count)

    def _ask(self, now: Tensor, changes: Changes, query: Tensor, count: int) -> Tensor:
        """One forward pass with several queries, (width, n) int64, of the examples `now`; the queries that follow, (n,)."""
        many = now.repeat(len(query))
        tried = self._allowed(changes.apply(query.clamp_max(count - 1).flatten(), self.x[many], self.z[many]), many)
        loss = self._margin(tried, self.y[many]).view_as(query)
        further = (loss > self.lowest[now]) & (query < count)
        first, found = further.int().argmax(0, keepdim=True), further.any(0)
        place = first * len(now) + torch.arange(len(now), device=now.device)
        self.x[now] = where_example(found, tried[place[0]], self.x[now])
        self.lowest[now] = torch.where(found, loss.gather(0, first)[0], self.lowest[now])
        return 1 + torch.where(found, query.gather(0, first)[0], query[-1])

    def _allowed(self, tried: Tensor, rows: Tensor) -> Tensor:
        z = self.z[rows]
        return tried if self.mask is None else z + (tried - z) * self.mask[rows]

    def _margin(self, x: Tensor, y: Tensor) -> Tensor:
        return margin(self.net(x.view(-1, *self.shape)).float(), y)

    def _flat(self, z: Tensor) -> Tensor:
        return z.flatten(2) if z.ndim == 4 else z.flatten(1)[:, None]
