"""The interface of the penalty axis."""

from enum import IntEnum
from typing import ClassVar

from torch import Tensor, nn

from temper.data.batch import Batch
from temper.models.network import Network


class Stage(IntEnum):
    """When a penalty acts. Penalties act in this order, then by name, whatever the order in which they were typed."""

    ARCHITECTURE = 0
    LABELS = 1
    WEIGHTS = 2


class Penalty(nn.Module):
    """A regularizer: hooks for the places where one can act, each of which does nothing by default.

    To write one, implement the hook it needs. A penalty is a module, so that heads, buffers and learned weights of its own are
    trained, moved and saved with the network's. The weight of its term is applied outside it.

    Attributes:
        stage: when it acts among several.
        magnitude: the argument that the root key `strength` scales, for a penalty that adds no weighted term; None if its size
            is not a number.
    """

    stage: ClassVar[Stage] = Stage.WEIGHTS
    magnitude: ClassVar[str | None] = None

    def prepare(self, net: Network) -> Network:
        """Reshape the network before training.

        Raises:
            ValueError: the network has no place for this penalty, which would silently have no effect.
        """
        return net

    def transform(self, batch: Batch) -> Batch:
        """Change what is learned from, in training alone."""
        return batch

    def term(self, net: Network, batch: Batch) -> Tensor | None:
        """What is added to the loss, a scalar before its weight; None where this penalty adds nothing."""
        return None

    def before_step(self, net: Network, lr: float) -> None:
        """Act on the weights once their gradients are there, just before the optimizer's step."""
