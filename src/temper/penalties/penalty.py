"""Interface of the penalties. A penalty is any regularizer here, whether or not it adds a term to the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import Enum, IntEnum
from typing import ClassVar, Protocol

from pytorch_lightning import Callback
from torch import Tensor, nn

from temper.data.batch import Batch
from temper.models.network import Network


class Stage(IntEnum):
    """Point at which a penalty acts. Penalties act in this order, then by name; the order in the config has no effect."""

    ARCHITECTURE = 0
    DATA = 1
    MIXING = 2
    LABELS = 3
    LOSS = 4
    TRAJECTORY = 5
    STEERING = 6


class Exclusive(Enum):
    """Actions that only one penalty of a run can take; the values complete "two penalties both …"."""

    PERTURBS_WEIGHTS = "compute the loss at perturbed weights"
    REPLACES_WEIGHTS = "replace the trained weights"  # in validation, checkpoints and tests


class PenaltyGroup(Protocol):
    """All penalties of a run, as a steering penalty sees them; implemented by `temper.penalties.Penalties`.

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
    """Base class of the regularizers: one hook for each place where a regularizer can act, a no-op by default.

    A subclass implements the hooks that it needs. A penalty is a module, so its heads, buffers and learned weights are trained,
    moved and saved with those of the network. The weight of its term is applied by `Penalties`, not by the penalty.

    Attributes:
        stage: stage at which it acts.
        magnitude: constructor argument that the root key `strength` scales, for a penalty without a weighted term; None if it
            has a term, or if its size is not a number.
        max_magnitude: largest magnitude that steering may set.
        neutral: overrides under which a run is bit-identical to one without this penalty, e.g. `weight=0`; empty if there are
            none.
        exclusive: action that no second penalty of the run may take; None if there is none.
    """

    stage: ClassVar[Stage] = Stage.LOSS
    magnitude: ClassVar[str | None] = None
    max_magnitude: ClassVar[float] = math.inf
    neutral: ClassVar[Sequence[str]] = ()
    exclusive: ClassVar[Exclusive | None] = None

    def prepare(self, net: Network) -> Network:
        """Modify the network before training, or read from it what this penalty needs.

        Args:
            net: network with freshly initialized weights.

        Returns:
            The network to train.

        Raises:
            ValueError: the penalty would have no effect on this network.
        """
        return net

    def begin(self, step: int, progress: float) -> None:
        """Update the state of this penalty before a training step.

        Args:
            step: number of optimizer steps so far.
            progress: fraction of the training that is completed.
        """

    def transform(self, batch: Batch) -> Batch:
        """Return the batch to train on. Validation and tests use the original one."""
        return batch

    def attacked_network(self, net: Network, batch: Batch, weight: float) -> Network:
        """Return the network that the training attack sees, for a penalty whose term the adversary maximizes with the risk.

        Args:
            net: network to attack.
            batch: batch, as `transform` returned it.
            weight: current weight of the term.
        """
        return net

    def shift(self, net: Network, risk: Callable[[Network], Tensor]) -> dict[str, Tensor]:
        """Return the offsets that are added to parameters before the loss is computed, by parameter name.

        Args:
            net: network whose parameters are perturbed.
            risk: function that returns the risk of a network on the current batch, a scalar.
        """
        return {}

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor | None:
        """Compute the term that is added to the loss: a scalar before its weight, or None if there is none.

        Args:
            net: network of this training step. It caches the logits of the points at which the risk was computed, so calling
                it on them is free.
            batch: batch, as `transform` returned it.
            x_adv: points that are trained on, (B, ...): the adversarial points, or `batch.x` without an attack.
        """
        return None

    def before_step(self, net: Network, lr: float) -> None:
        """Modify weights or gradients after the backward pass, just before the optimizer's step."""

    def after_step(self, net: Network) -> None:
        """Modify the weights just after the optimizer's step."""

    def callbacks(self, penalties: PenaltyGroup) -> list[Callback]:
        """Return Lightning callbacks that act on the whole training; the checkpoint includes their state."""
        return []

    def steers(self, name: str, other: Penalty) -> bool:
        """Return True if this penalty sets the weight or the magnitude of another one during training."""
        return False

    def factor_at(self, progress: float) -> float | None:
        """Return the factor of the steered penalties at a fraction of the training; None leaves them unchanged."""
        return None

    def scale(self, factor: float) -> None:
        """Multiply the configured magnitude by `factor` from now on; for a steered penalty without a term."""
        assert self.magnitude is not None
        if "_configured_magnitude" not in self.__dict__:
            self._configured_magnitude = float(getattr(self, self.magnitude))
        setattr(self, self.magnitude, min(self._configured_magnitude * factor, self.max_magnitude))


def has_term(penalty: Penalty | type[Penalty]) -> bool:
    """Return True if a penalty adds a term to the loss, which is scaled by a weight."""
    return (penalty if isinstance(penalty, type) else type(penalty)).term is not Penalty.term


def belongs_to(name: str, group: str) -> bool:
    """Return True if a penalty's dotted name is `group`, or is part of the option `group` (`elastic_net.l1`)."""
    return name == group or name.startswith(f"{group}.")
