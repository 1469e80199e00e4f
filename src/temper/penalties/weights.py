"""Penalties on the weights: L1, L2, weight decay, adaptive weight decay, orthogonality, spectral norm, max-norm.

Biases, norm layers and parameters that the network normalizes are excluded, unless `parameters="all"`.
"""

from collections.abc import Iterator
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from temper.config.types import NonNegative, Positive, Probability, checked
from temper.data.batch import Batch
from temper.models.network import Network, effective_weights, named_weights
from temper.penalties.gradient_ratios import total_norm
from temper.penalties.penalty import Penalty
from temper.runs.seeding import generator

Parameters = Literal["weights", "all"]


class _OnParameters(Penalty):
    """Base of the penalties on the weights alone, or on all trained parameters.

    Args:
        parameters: "weights" excludes biases, norm layers and embeddings that the network normalizes; "all" includes them.
    """

    neutral = ("weight=0",)

    @checked
    def __init__(self, *, parameters: Parameters = "weights") -> None:
        super().__init__()
        self.selection = parameters

    def selected(self, net: Network) -> list[Tensor]:
        """Return the parameters of a network that this penalty acts on."""
        if self.selection == "all":
            return [parameter for parameter in net.parameters() if parameter.requires_grad]
        return [weight for _, weight in named_weights(net)]


class L1(_OnParameters):
    """L1 penalty: sum |w|, which drives weights to zero (Tibshirani 1996, https://doi.org/10.1111/j.2517-6161.1996.tb02080.x).

    Args:
        parameters: "weights" excludes biases and norm layers; "all" includes them.
    """

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return torch.stack([w.abs().sum() for w in self.selected(net)]).sum()


class L2(_OnParameters):
    """L2 penalty: 1/2 sum w^2, so its weight equals the weight decay of SGD (Krogh & Hertz 1991).

    Args:
        parameters: "weights" excludes biases and norm layers; "all" includes them.
    """

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return torch.stack([w.square().sum() for w in self.selected(net)]).sum() / 2


class WeightDecay(_OnParameters):
    """Decoupled weight decay.

    w <- (1 - lr * decay) w before each step (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101). With Adam this is
    AdamW. Unlike `l2` it is not part of the gradient, so neither momentum nor Adam's normalization applies to it.

    Args:
        decay: decay per step and unit of the learning rate.
        parameters: "weights" excludes biases and norm layers; "all" includes them.
    """

    magnitude = "decay"
    neutral = ("decay=0",)

    @checked
    def __init__(self, *, decay: NonNegative, parameters: Parameters = "weights") -> None:
        super().__init__(parameters=parameters)
        self.decay = decay

    @torch.no_grad()
    def before_step(self, net: Network, lr: float) -> None:
        if self.decay:
            torch._foreach_mul_(self.selected(net), 1 - lr * self.decay)


class AdaptiveWeightDecay(_OnParameters):
    """Weight decay in a fixed ratio to the gradient.

    ||decay_t w|| = ratio * ||g||, with decay_t = 0.1 decay_(t-1) + 0.9 ratio * ||g|| / ||w|| (Ghiasi et al. 2023,
    https://arxiv.org/abs/2210.00094, algorithm 1). The optimizer receives g + decay_t w: as in the paper the decay is not
    decoupled. g is the gradient of the whole loss, including other penalties.

    Args:
        ratio: ratio of decay to gradient (0.022 in the paper for adversarial training on CIFAR-10).
        memory: decay of the moving average (0.1 in the paper).
        parameters: "weights" excludes biases and norm layers; "all" includes them.
    """

    magnitude = "ratio"
    neutral = ("ratio=0",)
    decay: Tensor

    @checked
    def __init__(self, *, ratio: NonNegative, memory: Probability = 0.1, parameters: Parameters = "weights") -> None:
        super().__init__(parameters=parameters)
        self.ratio, self.memory = ratio, memory
        self.register_buffer("decay", torch.zeros(()))

    @torch.no_grad()
    def before_step(self, net: Network, lr: float) -> None:
        if not self.ratio:
            return
        weights = [weight for weight in self.selected(net) if weight.grad is not None]
        gradients = [cast(Tensor, weight.grad) for weight in weights]
        decay = self.ratio * total_norm(gradients) / total_norm(weights).clamp_min(1e-12)
        # Gradients may overflow in half precision. The optimizer skips such a step, so it must not change the average.
        self.decay.copy_(torch.where(decay.isfinite(), self.decay.lerp(decay, 1 - self.memory), self.decay))
        for gradient, weight in zip(gradients, weights, strict=True):
            gradient.addcmul_(weight, self.decay)


class Orthogonal(Penalty):
    """Soft orthogonality: distance of the weight matrices from orthonormal rows or columns.

    The sum over layers of ||W W^T - I||_F^2, or of ||W^T W - I||_F^2 if that matrix is smaller (Bansal et al. 2018,
    https://arxiv.org/abs/1810.09102, eq. 2). A convolution kernel counts as a matrix with one row per output channel.
    """

    neutral = ("weight=0",)

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return torch.stack([_distance_from_orthogonal(matrix) for matrix in matrices(net)]).sum()


class Spectral(Penalty):
    """Spectral norm regularization: squared largest singular values.

    1/2 sum over layers of sigma(W)^2 (Yoshida & Miyato 2017, https://arxiv.org/abs/1705.10941, eq. 3). sigma is estimated by
    power iteration. Each training step takes one iteration, starting from the vectors of the last one, which are part of the
    checkpoint. A convolution kernel counts as a matrix with one row per output channel, as in the paper.
    """

    neutral = ("weight=0",)

    def prepare(self, net: Network) -> Network:
        weights = list(matrices(net))
        if not weights:
            raise ValueError(
                f"{type(net).__name__} has no weight matrices, so this penalty would have no effect. Remove it or choose "
                "another model."
            )
        for number, matrix in enumerate(weights):
            v = torch.randn(matrix.shape[1], generator=generator(0, "spectral", number))
            self.register_buffer(f"v{number}", F.normalize(v, dim=0))
        return net

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return torch.stack([self._sigma(matrix, number) for number, matrix in enumerate(matrices(net))]).square().sum() / 2

    def _sigma(self, matrix: Tensor, number: int) -> Tensor:
        """Return the largest singular value as u^T W v, where u and v are constants of the gradient."""
        v = cast(Tensor, getattr(self, f"v{number}"))
        # In half precision rounding errors would exceed the progress of one iteration.
        with torch.autocast(matrix.device.type, enabled=False):
            with torch.no_grad():
                u = F.normalize(matrix.float() @ v, dim=0)
                new = F.normalize(matrix.float().T @ u, dim=0)
                v.copy_(new)
            return u @ matrix.float() @ new


class MaxNorm(Penalty):
    """Max-norm constraint on the incoming weights of every unit.

    After each step they are scaled back to the norm `limit` if they exceed it (Srebro et al. 2005; Srivastava et al. 2014,
    https://jmlr.org/papers/v15/srivastava14a.html, section 5.1). The root key `strength` does not scale the limit.

    Args:
        limit: largest Euclidean norm (3 to 4 in the paper).
    """

    neutral = ("limit=1e+09",)

    @checked
    def __init__(self, *, limit: Positive) -> None:
        super().__init__()
        self.limit = limit

    def prepare(self, net: Network) -> Network:
        if any(parametrize.is_parametrized(module) for module in net.modules()):
            raise ValueError("parametrized weights, e.g. by spectral_norm, cannot be scaled back. Use only one of the two.")
        return net

    @torch.no_grad()
    def after_step(self, net: Network) -> None:
        for matrix in matrices(net):
            norms = matrix.norm(dim=1, keepdim=True)
            matrix.mul_(torch.where(norms > self.limit, self.limit / norms, 1.0))


def matrices(net: nn.Module) -> Iterator[Tensor]:
    """Yield every weight with two or more dimensions, as the network uses it, as a view of shape (outputs, inputs)."""
    for weight in effective_weights(net):
        if weight.ndim > 1:
            yield weight.flatten(1)


def _distance_from_orthogonal(matrix: Tensor) -> Tensor:
    rows, columns = matrix.shape
    with torch.autocast(matrix.device.type, enabled=False):
        gram = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
    return (gram - torch.eye(len(gram), device=gram.device)).square().sum()
