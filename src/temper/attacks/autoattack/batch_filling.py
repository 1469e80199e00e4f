"""Attacks that keep their forward passes full: where few examples still stand, further runs on them stand side by side."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from temper.attacks.ascent import where_example
from temper.attacks.attack import Attack
from temper.attacks.network_state import Mode, probing
from temper.attacks.threat import Threat
from temper.data.batch import Batch
from temper.models.network import Network


class Filling(Attack):
    """An attack whose forward passes may have more rows than it has examples."""

    @abstractmethod
    def perturb(self, net: Network, batch: Batch, rows: int | None = None) -> Tensor:
        """As every attack's.

        Args:
            rows: the most rows of a forward pass; None: as many as the batch has, so that memory stays what the batch takes.
        """


@dataclass
class Found:
    """What a run found, one row a run, later an example: a misclassified point if there is one, else the point of highest loss.

    Attributes:
        z: (n, ...).
        loss: what points are compared by, (n,).
        fooled: whether z is misclassified, (n,) bool.
    """

    z: Tensor
    loss: Tensor
    fooled: Tensor

    @classmethod
    def nothing(cls, z: Tensor) -> "Found":
        """Before the first point."""
        loss = torch.full((len(z),), -torch.inf, device=z.device)
        return cls(z.clone(), loss, torch.zeros_like(loss, dtype=torch.bool))

    def only(self, rows: Tensor) -> "Found":
        """The same of these rows alone."""
        return Found(self.z[rows], self.loss[rows], self.fooled[rows])

    def put(self, rows: Tensor, found: "Found") -> None:
        """The same for these rows, (m,) int64, each at most once."""
        self.z[rows], self.loss[rows], self.fooled[rows] = found.z, found.loss, found.fooled

    def improve(self, rows: Tensor, found: "Found") -> None:
        """Where `found`, (m,), is better than what these rows have; a row may occur several times."""
        loss = found.loss.nan_to_num(nan=-torch.inf)  # what cannot be compared is better than nothing at all
        place = torch.where(found.fooled, torch.inf, loss).argsort(stable=True).argsort()
        last = torch.full_like(self.loss, -1, dtype=torch.int64).scatter_reduce(0, rows, place, "amax")
        best = (place == last[rows]).nonzero().squeeze(1)
        rows, z, loss, fooled = rows[best], found.z[best], found.loss[best], found.fooled[best]
        better = fooled | (loss > self.loss[rows])
        loss = torch.where(better, loss, self.loss[rows])
        self.put(rows, Found(where_example(better, z, self.z[rows]), loss, fooled | self.fooled[rows]))


class Runs(Filling):
    """Several runs on each example: towards other classes, or from other starts.

    The runs of a full batch follow one another, each on the examples that the ones before it left standing. As soon as examples
    have fallen, their rows go to later runs of the others, in the same order. As soon as one run fools an example, all others
    on it are dropped.

    Args:
        threat: the set that x' stays in.
        runs: on each example; towards classes, the likeliest other class comes first, and there are no more runs than classes.
        targeted: whether each run goes towards a class of its own.
        mode: of the network while it is attacked.
    """

    def __init__(self, *, threat: Threat, runs: int, targeted: bool, mode: Mode) -> None:
        super().__init__()
        self.threat, self.runs, self.targeted, self.mode = threat, runs, targeted, mode

    @abstractmethod
    def run(self, net: Network, batch: Batch, z: Tensor, target: Tensor | None) -> Found:
        """One run for each row.

        Args:
            batch: of n rows, all of them classified rightly; `index` says which of them are the same example.
            z: the inputs, (n, ...), detached.
            target: the classes that a targeted attack goes towards, (n,) int64.
        """

    def perturb(self, net: Network, batch: Batch, rows: int | None = None) -> Tensor:
        rows = len(batch) if rows is None else rows
        with probing(net, self.mode):
            z = net.lift(batch.x).detach()
            with torch.no_grad():
                logits = net(z)
            self.check(logits.shape[1])
            found = Found.nothing(z)
            standing = (logits.argmax(1) == batch.y).nonzero().squeeze(1)
            runs = self.runs
            if self.targeted:
                runs = min(runs, logits.shape[1] - 1)
                # The label comes first in the ranking, level with another class or not.
                ranking = logits.scatter(1, batch.y[:, None], torch.inf).argsort(dim=1, descending=True)
            queue = torch.cartesian_prod(torch.arange(1, runs + 1, device=z.device), standing)
            while len(queue):
                (number, example), queue = queue[:rows].unbind(1), queue[rows:]
                target = ranking[example, number] if self.targeted else None
                found.improve(example, self.run(net, batch.select(example), z[example], target))
                queue = queue[~found.fooled[queue[:, 1]]]
            return self.threat.on(batch).finish(found.z, z).detach()

    def check(self, classes: int) -> None:
        """Whether the attack works for so many classes.

        Raises:
            ValueError: it does not.
        """


def undecided(fooled: Tensor, index: Tensor) -> Tensor:
    """Rows of the examples that no row has fooled, (m,) int64, given which rows, (n,) bool, and whose they are, (n,) int64."""
    return (~torch.isin(index, index[fooled])).nonzero().squeeze(1)
