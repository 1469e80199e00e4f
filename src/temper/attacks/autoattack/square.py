"""Square: random search that asks the network for its logits alone."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from temper.attacks.ascent import where_example
from temper.attacks.autoattack.batch_filling import Filling
from temper.attacks.autoattack.square_windows import Changes, draw, signs
from temper.attacks.losses import margin
from temper.attacks.network_state import probing
from temper.attacks.threat import Threat, per_example
from temper.config.types import Count, Positive, Probability, checked
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
            threat = self.threat.on(batch)
            search = _Search(net, batch, z, threat)
            search.begin(threat.project(z + self._stripes(z), z))
            for share, count in self._blocks():
                search.go(draw(threat, z, share, DRAWN), count, rows)
                if not search.standing.any():
                    break
            return threat.finish(search.x.view_as(z), z)

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

    def __init__(self, net: Network, batch: Batch, z: Tensor, threat: Threat) -> None:
        self.net, self.y, self.shape, self.threat = net, batch.y, z.shape[1:], threat
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
        # By example, the queries that would change something, then `count` where there are no more; and how many are done.
        queue = torch.full((len(self.y), 2 * count), count, device=self.y.device)
        done = torch.zeros_like(self.y)
        moved, asked = self.standing.nonzero().squeeze(1), torch.full_like(self.y[:1], -1)
        while True:
            if len(moved):
                queue[moved, :count] = self._coming(changes, count, moved, asked)
                done[moved] = 0
            now = (self.standing & (queue.gather(1, done[:, None])[:, 0] < count)).nonzero().squeeze(1)
            if len(now) == 0:
                return
            width = max(1, min(rows // len(now), count))
            query = queue[now[:, None], done[now][:, None] + torch.arange(width, device=now.device)].T
            moved, asked = self._ask(changes, count, now, query)
            done[now] += width

    def _coming(self, changes: Changes, count: int, examples: Tensor, asked: Tensor) -> Tensor:
        """The queries behind those that were `asked` last, (n,) or (1,), that would change something, (n, count)."""
        number = torch.arange(count, device=examples.device)[:, None]
        waiting = changes.useful(self.x[examples], self.z[examples])[:count] & (number > asked)
        return torch.where(waiting, number, count).sort(dim=0).values.T

    def _ask(self, changes: Changes, count: int, now: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """One forward pass with the next queries, (width, n) int64, of the examples `now`, (n,) int64.

        Returns:
            The examples that got further, (m,) int64, and the first query with which they did.
        """
        many, query = now.repeat(len(query)), query.flatten()
        tried = self._allowed(changes.apply(query.clamp_max(count - 1), self.x[many], self.z[many]), many)
        loss = self._margin(tried, self.y[many])
        further = ((loss > self.lowest[many]) & (query < count)).view(-1, len(now))
        found = further.any(0).nonzero().squeeze(1)
        first = further[:, found].int().argmax(0) * len(now) + found
        self.x[now[found]], self.lowest[now[found]] = tried[first], loss[first]
        return now[found], query[first]

    def _allowed(self, tried: Tensor, rows: Tensor) -> Tensor:
        z = self.z[rows]
        return self.threat.settle(tried if self.mask is None else z + (tried - z) * self.mask[rows], z)

    def _margin(self, x: Tensor, y: Tensor) -> Tensor:
        return margin(self.net(x.view(-1, *self.shape)).float(), y)

    def _flat(self, z: Tensor) -> Tensor:
        return z.flatten(2) if z.ndim == 4 else z.flatten(1)[:, None]
