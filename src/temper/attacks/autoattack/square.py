"""Square: random search that uses only the network's logits."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from temper.attacks.ascent import where_example
from temper.attacks.autoattack.batch_filling import Filling
from temper.attacks.autoattack.square_windows import Proposals, draw_proposals, random_signs
from temper.attacks.losses import margin
from temper.attacks.network_state import probing
from temper.attacks.threat import Threat, per_example
from temper.config.types import Count, Positive, Probability, checked
from temper.data.batch import Batch
from temper.models.network import Network

# Queries after which the changed fraction of the input is halved, as published for 10,000 queries.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
QUERIES_PER_DRAW = 100


class Square(Filling):
    """Square attack (Andriushchenko et al. 2020, https://arxiv.org/abs/1912.00049): random search on the margin loss.

    Random changes that raise the loss are kept. The attack needs no gradient, so gradient masking does not mislead it. On
    images, (B, C, H, W), each query changes a square window, each channel in one direction; on other inputs it changes a random
    set of features. Under linf a change is +eps or -eps. Under l2 the window takes over the budget of a second one, and a pair
    of bumps is added to it; under l1 likewise.

    Most queries do not raise the loss. Where few examples remain, several queries of each are asked at once, all from the same
    point. The first one that raises the loss counts, and the later ones are asked again from the new point. A query that would
    change nothing is not asked. Each example therefore reaches the point that it would reach with one query at a time.

    Args:
        threat: the perturbation set.
        eps: overrides the radius of `threat`.
        queries: queries for each example that is not yet fooled.
        share: fraction of the input that is changed at first.
    """

    @checked
    def __init__(self, *, threat: Threat, eps: Positive | None = None, queries: Count = 5000, share: Probability = 0.8) -> None:
        super().__init__()
        self.threat = threat.with_eps(eps)
        self.queries, self.share = queries, share

    def perturb(self, net: Network, batch: Batch, rows: int | None = None) -> Tensor:
        rows = len(batch) if rows is None else rows
        with probing(net, "eval"), torch.no_grad():
            z = net.lift(batch.x).detach()
            threat = self.threat.for_batch(batch)
            search = _Search(net, batch, z, threat)
            search.start(threat.project(z + self._stripes(z), z))
            for fraction, count in self._blocks():
                search.run(draw_proposals(threat, z, fraction, QUERIES_PER_DRAW), count, rows)
                if not search.unfooled.any():
                    break
            return threat.finish(search.x.view_as(z), z)

    def _stripes(self, z: Tensor) -> Tensor:
        """Return the first change, (B, ...), of length eps: vertical stripes of random sign, separately in each channel."""
        stripes = random_signs((*z.shape[:2], 1, z.shape[3]) if z.ndim == 4 else z.shape, z).expand_as(z)
        return stripes * per_example(self.threat.eps / self.threat.length(stripes), z)

    def _blocks(self) -> Iterator[tuple[float, int]]:
        """Yield the changed fraction of the input and a number of queries, at most QUERIES_PER_DRAW.

        The start counts as the first query.
        """
        edges = [0, *HALVINGS, max(self.queries, *HALVINGS)]
        for halvings, (before, last) in enumerate(pairwise(edges)):
            for query in range(before + 1, min(last + 1, self.queries), QUERIES_PER_DRAW):
                yield self.share / 2**halvings, min(QUERIES_PER_DRAW, last + 1 - query, self.queries - query)


class _Search:
    """State of the random search on a batch.

    Attributes:
        z: the inputs, (B, C, S) as `Proposals` take them.
        x: the best points, (B, C, S).
        loss: margin loss at x, (B,); negative while an example is not fooled.
    """

    def __init__(self, net: Network, batch: Batch, z: Tensor, threat: Threat) -> None:
        self.net, self.y, self.shape, self.threat = net, batch.y, z.shape[1:], threat
        self.z = self._flatten(z)
        self.x = self.z.clone()
        self.mask = None if batch.mask is None else self._flatten(batch.mask.expand_as(z))
        self.loss = self._margin(self.z, self.y)

    @property
    def unfooled(self) -> Tensor:
        """True for examples that are not fooled yet, (B,) bool."""
        return self.loss < 0

    def start(self, start: Tensor) -> None:
        """Query the first points of all examples, (B, ...)."""
        points = self._restrict(self._flatten(start), torch.arange(len(self.z), device=self.z.device))
        loss = self._margin(points, self.y)
        better = self.unfooled & (loss > self.loss)
        self.x = where_example(better, points, self.x)
        self.loss = torch.where(better, loss, self.loss)

    def run(self, proposals: Proposals, count: int, rows: int) -> None:
        """Run `count` queries for each example that is not fooled, with at most `rows` rows per forward pass."""
        # For each example, the queries that would change something, padded with `count`; and how many of them are done.
        queue = torch.full((len(self.y), 2 * count), count, device=self.y.device)
        done = torch.zeros_like(self.y)
        improved, last_query = self.unfooled.nonzero().squeeze(1), torch.full_like(self.y[:1], -1)
        while True:
            if len(improved):
                queue[improved, :count] = self._pending(proposals, count, improved, last_query)
                done[improved] = 0
            active = (self.unfooled & (queue.gather(1, done[:, None])[:, 0] < count)).nonzero().squeeze(1)
            if len(active) == 0:
                return
            width = max(1, min(rows // len(active), count))
            query = queue[active[:, None], done[active][:, None] + torch.arange(width, device=active.device)].T
            improved, last_query = self._ask(proposals, count, active, query)
            done[active] += width

    def _pending(self, proposals: Proposals, count: int, examples: Tensor, last_query: Tensor) -> Tensor:
        """Return the queries after the last one asked, (n,) or (1,), that would change something, (n, count)."""
        number = torch.arange(count, device=examples.device)[:, None]
        pending = proposals.effective(self.x[examples], self.z[examples])[:count] & (number > last_query)
        return torch.where(pending, number, count).sort(dim=0).values.T

    def _ask(self, proposals: Proposals, count: int, examples: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Ask the next queries, (width, n) int64, of n examples in one forward pass.

        Returns:
            The examples that improved, (m,) int64, and the first query that improved each of them.
        """
        rows, query = examples.repeat(len(query)), query.flatten()
        points = self._restrict(proposals.apply(query.clamp_max(count - 1), self.x[rows], self.z[rows]), rows)
        loss = self._margin(points, self.y[rows])
        better = ((loss > self.loss[rows]) & (query < count)).view(-1, len(examples))
        improved = better.any(0).nonzero().squeeze(1)
        first = better[:, improved].int().argmax(0) * len(examples) + improved
        self.x[examples[improved]], self.loss[examples[improved]] = points[first], loss[first]
        return examples[improved], query[first]

    def _restrict(self, points: Tensor, rows: Tensor) -> Tensor:
        """Undo changes outside of the mask and round table rows to valid ones."""
        z = self.z[rows]
        return self.threat.round_to_domain(points if self.mask is None else z + (points - z) * self.mask[rows], z)

    def _margin(self, x: Tensor, y: Tensor) -> Tensor:
        return margin(self.net(x.view(-1, *self.shape)).float(), y)

    def _flatten(self, z: Tensor) -> Tensor:
        return z.flatten(2) if z.ndim == 4 else z.flatten(1)[:, None]
