"""The interface of the penalty axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import ClassVar, Protocol

from pytorch_lightning import Callback
from torch import Tensor, nn

from temper.data.batch import Batch
from temper.models.network import Network


class Stage(IntEnum):
    """When a penalty acts. Penalties act in this order, then by name, whatever the order in which they were typed."""

    ARCHITECTURE = 0
    DATA = 1
    MIXING = 2
    LABELS = 3
    LOSS = 4
    TRAJECTORY = 5
    STEERING = 6


class Place(IntEnum):
    """What one penalty alone can do in a run."""

    DISPLACES = 0  # the weights at which the loss is taken
    STANDS_IN = 1  # for the trained weights, in validation, checkpoints and tests


class PenaltyGroup(Protocol):
    """All penalties of a run, as one that steers others sees them; `temper.penalties.Penalties` implements it.

    Attributes:
        factors: multipliers that steering penalties apply to weights or magnitudes, by name.
    """

    factors: dict[str, float]

    def weight(self, name: str) -> float:
        """Return the current weight of a term."""

    def steered_by(self, penalty: Penalty) -> list[str]:
        """Return the names of the penalties whose weight or magnitude `penalty` sets."""

    def steer(self, name: str, factor: float) -> None:
        """Set the factor of a penalty."""


class Penalty(nn.Module):
    """A regularizer: hooks for the places where one can act, each of which does nothing by default.

    To write one, implement the hook it needs. A penalty is a module, so that heads, buffers and learned weights of its own are
    trained, moved and saved with the network's. The weight of its term is applied outside it.

    Attributes:
        stage: when it acts among several.
        magnitude: the argument that the root key `strength` scales, for a penalty that adds no weighted term; None if its size
            is not a number, or it adds a term.
        largest: value of the magnitude that steering may reach.
        neutral: its settings with which a run equals that without it to the bit, as one types them ("weight=0"); empty: there
        are
            none.
        place: what it does that no second penalty of a run can do.
    """

    stage: ClassVar[Stage] = Stage.LOSS
    magnitude: ClassVar[str | None] = None
    largest: ClassVar[float] = math.inf
    neutral: ClassVar[Sequence[str]] = ()
    place: ClassVar[Place | None] = None

    def prepare(self, net: Network) -> Network:
        """Reshape the network before training, or note what is needed of it.

        Raises:
            ValueError: the network has no place for this penalty, which would silently have no effect.
        """
        return net

    def begin(self, step: int, done: float) -> None:
        """Before each training step, given its number and the share of training that is done."""

    def transform(self, batch: Batch) -> Batch:
        """Change what is learned from, in training alone."""
        return batch

    def exposed(self, net: Network, batch: Batch, weight: float) -> Network:
        """The network that the training attack meets, if the adversary climbs more than the risk."""
        return net

    def shift(self, net: Network, risk: Callable[[Network], Tensor]) -> dict[str, Tensor]:
        """By the name of a parameter, what is added to it before the loss is taken; `risk` gives a network's, a scalar."""
        return {}

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor | None:
        """What is added to the loss, a scalar before its weight; None where this penalty adds nothing.

        Args:
            net: as the step sees it: the logits of points that the risk was taken at cost nothing.
            batch: as `transform` left it.
            x_adv: the points that are trained on, (B, ...): those that the attack found, or `batch.x`.
        """
        return None

    def before_step(self, net: Network, lr: float) -> None:
        """Act on weights or gradients once these are there, just before the optimizer's step."""

    def after_step(self, net: Network) -> None:
        """Act on the weights just after the optimizer's step."""

    def callbacks(self, penalties: PenaltyGroup) -> list[Callback]:
        """What follows the whole training, as Lightning's callbacks; state of theirs is in the checkpoint."""
        return []

    def steers(self, name: str, other: Penalty) -> bool:
        """Whether it sets the weight, or the magnitude, of another penalty during training."""
        return False

    def course(self, done: float) -> float | None:
        """The factor for those that it steers at a share of training; None leaves them."""
        return None

    def scale(self, factor: float) -> None:
        """Act with this factor of its magnitude from now on, for a penalty that is steered and adds no term."""
        assert self.magnitude is not None
        if "_whole" not in self.__dict__:
            self._whole = float(getattr(self, self.magnitude))
        setattr(self, self.magnitude, min(self._whole * factor, self.largest))


def adds_a_term(penalty: Penalty | type[Penalty]) -> bool:
    """Whether a penalty adds to the loss, and so is scaled by a weight."""
    return (penalty if isinstance(penalty, type) else type(penalty)).term is not Penalty.term


def steerable(penalty: Penalty) -> bool:
    """Whether a penalty has a weight or a magnitude that another one can set."""
    return adds_a_term(penalty) or penalty.magnitude is not None
