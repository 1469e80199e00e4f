"""Base classes of attacks that fill their forward passes: rows of fooled examples go to further runs on the remaining ones."""

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
    """Base class of attacks whose forward passes can have more rows than the batch has examples."""

    @abstractmethod
    def perturb(self, net: Network, batch: Batch, rows: int | None = None) -> Tensor:
        """Return adversarial points, as `Attack.perturb` does.

        Args:
            net: the attacked network; its state is unchanged afterwards.
            batch: B examples.
            rows: the most rows of a forward pass; None: B, so that memory stays that of the batch.
        """


@dataclass
class RunResult:
    """Best points of a number of runs or examples: a misclassified point if there is one, else the point of highest loss.

    Attributes:
        z: the points, (n, ...).
        loss: values by which points are compared, (n,).
        fooled: True where z is misclassified, (n,) bool.
    """

    z: Tensor
    loss: Tensor
    fooled: Tensor

    @classmethod
    def empty(cls, z: Tensor) -> "RunResult":
        """Return the result before the first point, with the inputs z, (n, ...), as points."""
        loss = torch.full((len(z),), -torch.inf, device=z.device)
        return cls(z.clone(), loss, torch.zeros_like(loss, dtype=torch.bool))

    def select(self, rows: Tensor) -> "RunResult":
        """Return the result of a selection of rows, (m,) int64."""
        return RunResult(self.z[rows], self.loss[rows], self.fooled[rows])

    def assign(self, rows: Tensor, result: "RunResult") -> None:
        """Replace the result of these rows, (m,) int64, each at most once."""
        self.z[rows], self.loss[rows], self.fooled[rows] = result.z, result.loss, result.fooled

    def merge(self, rows: Tensor, result: "RunResult") -> None:
        """Replace the result of these rows, (m,) int64, where the new one is better; a row may occur several times."""
        loss = result.loss.nan_to_num(nan=-torch.inf)  # a loss that cannot be compared is better than no point
        rank = torch.where(result.fooled, torch.inf, loss).argsort(stable=True).argsort()
        highest = torch.full_like(self.loss, -1, dtype=torch.int64).scatter_reduce(0, rows, rank, "amax")
        best = (rank == highest[rows]).nonzero().squeeze(1)
        rows, z, loss, fooled = rows[best], result.z[best], result.loss[best], result.fooled[best]
        better = fooled | (loss > self.loss[rows])
        loss = torch.where(better, loss, self.loss[rows])
        self.assign(rows, RunResult(where_example(better, z, self.z[rows]), loss, fooled | self.fooled[rows]))


class MultiRunAttack(Filling):
    """Base class of attacks that make several runs on each example: towards different classes or from different starts.

    In a full batch the runs follow one another, each on the examples that the previous runs did not fool. The rows of fooled
    examples go to later runs of the others, in the same order. Once a run fools an example, all other runs on it are dropped.

    Args:
        threat: the perturbation set.
        runs: runs on each example; a targeted attack makes at most as many as there are other classes, the likeliest first.
        targeted: True if each run targets a different class.
        mode: mode of the network during the attack.
    """

    def __init__(self, *, threat: Threat, runs: int, targeted: bool, mode: Mode) -> None:
        super().__init__()
        self.threat, self.runs, self.targeted, self.mode = threat, runs, targeted, mode

    @abstractmethod
    def run(self, net: Network, batch: Batch, z: Tensor, target: Tensor | None) -> RunResult:
        """Make one run for each row and return its result.

        Args:
            net: the attacked network.
            batch: n rows, all correctly classified; rows with the same `index` are the same example.
            z: the inputs, (n, ...), detached.
            target: target classes of a targeted attack, (n,) int64.
        """

    def perturb(self, net: Network, batch: Batch, rows: int | None = None) -> Tensor:
        rows = len(batch) if rows is None else rows
        with probing(net, self.mode):
            z = net.lift(batch.x).detach()
            with torch.no_grad():
                logits = net(z)
            self.check_classes(logits.shape[1])
            result = RunResult.empty(z)
            correct = (logits.argmax(1) == batch.y).nonzero().squeeze(1)
            runs = self.runs
            if self.targeted:
                runs = min(runs, logits.shape[1] - 1)
                # The label is ranked first, even if another class has the same logit.
                ranking = logits.scatter(1, batch.y[:, None], torch.inf).argsort(dim=1, descending=True)
            queue = torch.cartesian_prod(torch.arange(1, runs + 1, device=z.device), correct)
            while len(queue):
                (number, example), queue = queue[:rows].unbind(1), queue[rows:]
                target = ranking[example, number] if self.targeted else None
                result.merge(example, self.run(net, batch.select(example), z[example], target))
                queue = queue[~result.fooled[queue[:, 1]]]
            return self.threat.for_batch(batch).finish(result.z, z).detach()

    def check_classes(self, classes: int) -> None:
        """Check that the attack works for this number of classes.

        Raises:
            ValueError: There are too few classes.
        """


def unfooled_rows(fooled: Tensor, index: Tensor) -> Tensor:
    """Return the rows of examples that no row has fooled, (m,) int64.

    Args:
        fooled: True for rows that fool their example, (n,) bool.
        index: example of each row, (n,) int64.
    """
    return (~torch.isin(index, index[fooled])).nonzero().squeeze(1)
