"""Penalties on the size of the weights. Biases, norm layers and what a network normalizes are left out, unless asked for."""

from collections.abc import Iterator
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from temper.config.types import NonNegative, Positive, Probability, checked
from temper.data.batch import Batch
from temper.models.network import Network, effective_weights, named_weights
from temper.penalties.penalty import Penalty
from temper.runs.seeding import generator

Parameters = Literal["weights", "all"]


class _OnParameters(Penalty):
    """What acts on the weights alone, or on all parameters that are trained.

    Args:
        parameters: "weights" leaves out biases, norm layers and embeddings that the network normalizes, "all" does not.
    """

    neutral = ("weight=0",)

    @checked
    def __init__(self, *, parameters: Parameters = "weights") -> None:
        super().__init__()
        self.which = parameters

    def of(self, net: Network) -> list[Tensor]:
        if self.which == "all":
            return [parameter for parameter in net.parameters() if parameter.requires_grad]
        return [weight for _, weight in named_weights(net)]


class L1(_OnParameters):
    """sum |w|: drives weights to zero (Tibshirani 1996, https://doi.org/10.1111/j.2517-6161.1996.tb02080.x)."""

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return torch.stack([w.abs().sum() for w in self.of(net)]).sum()


class L2(_OnParameters):
    """1/2 sum w^2, so that its weight equals the decay of SGD (Krogh & Hertz 1991)."""

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return torch.stack([w.square().sum() for w in self.of(net)]).sum() / 2


class WeightDecay(_OnParameters):
    """Decoupled decay, w <- (1 - lr * decay) w before each step (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101).

    With Adam it is AdamW; unlike `l2` it never enters the gradient, and so neither momentum nor its normalization.

    Args:
        decay: per step and unit of learning rate.
        parameters: "weights" leaves out biases and norm layers, "all" does not.
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
            torch._foreach_mul_(self.of(net), 1 - lr * self.decay)


class AdaptiveWeightDecay(_OnParameters):
    """Decay in a fixed ratio to the gradient: ||decay_t w|| = ratio * ||g|| (Ghiasi et al. 2023,
    https://arxiv.org/abs/2210.00094, algorithm 1).

    decay_t = 0.1 decay_(t-1) + 0.9 ratio * ||g|| / ||w||, and g + decay_t w is what the optimizer sees: as in the paper the
    decay is not decoupled. g is the gradient of the whole loss, that of other penalties included.

    Args:
        ratio: between decay and gradient (0.022 in the paper for adversarial training on CIFAR-10).
        memory: of the moving average (0.1 in the paper).
        parameters: "weights" leaves out biases and norm layers, "all" does not.
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
        weights = [weight for weight in self.of(net) if weight.grad is not None]
        gradients = [cast(Tensor, weight.grad) for weight in weights]
        now = self.ratio * _norm(gradients) / _norm(weights).clamp_min(1e-12)
        # In half precision a gradient may overflow: that step is skipped, and nothing of it stays.
        self.decay.copy_(torch.where(now.isfinite(), self.decay.lerp(now, 1 - self.memory), self.decay))
        for gradient, weight in zip(gradients, weights, strict=True):
            gradient.addcmul_(weight, self.decay)


class Orthogonal(Penalty):
    """sum over layers of ||W W^T - I||_F^2, of the smaller of the two Gram matrices (Bansal et al. 2018,
    https://arxiv.org/abs/1810.09102, eq. 2): rows, or columns, of length 1 that do not overlap.

    A convolution's kernel is taken as a matrix of one row an output channel.
    """

    neutral = ("weight=0",)

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return torch.stack([_distance_from_orthogonal(matrix) for matrix in matrices(net)]).sum()


class MaxNorm(Penalty):
    """After each step the incoming weights of every unit are scaled back to length `limit` if they are longer (Srebro et al.
    2005; Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html, section 5.1).

    The root key `strength` does not scale a limit.

    Args:
        limit: largest Euclidean length (3 to 4 in the paper).
    """

    neutral = ("limit=1e+09",)

    @checked
    def __init__(self, *, limit: Positive) -> None:
        super().__init__()
        self.limit = limit

    def prepare(self, net: Network) -> Network:
        if any(parametrize.is_parametrized(module) for module in net.modules()):
            raise ValueError("weights that are parametrized, as by spectral_norm, cannot be scaled back; take one of the two")
        return net

    @torch.no_grad()
    def after_step(self, net: Network) -> None:
        for matrix in matrices(net):
            lengths = matrix.norm(dim=1, keepdim=True)
            matrix.mul_(torch.where(lengths > self.limit, self.limit / lengths, 1.0))


def matrices(net: nn.Module) -> Iterator[Tensor]:
    """Every weight of two dimensions or more, as the network uses it, as a matrix, (outputs, inputs): a view of it."""
    for weight in effective_weights(net):
        if weight.ndim > 1:
            yield weight.flatten(1)


def _distance_from_orthogonal(matrix: Tensor) -> Tensor:
    rows, columns = matrix.shape
    with torch.autocast(matrix.device.type, enabled=False):
        gram = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
    return (gram - torch.eye(len(gram), device=gram.device)).square().sum()


def _norm(tensors: list[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(tensors)).norm()


class Spectral(Penalty):
    """1/2 sum over layers of sigma(W)^2, the square of the largest singular value (Yoshida & Miyato 2017,
    https://arxiv.org/abs/1705.10941, eq. 3).

    sigma comes by power iteration, one step of it at each training step from where the last one ended; its vectors are in the
    checkpoint. A convolution's kernel is taken as a matrix of one row an output channel, as in the paper.
    """

    neutral = ("weight=0",)

    def prepare(self, net: Network) -> Network:
        found = list(matrices(net))
        if not found:
            raise ValueError(f"{type(net).__name__} has no weight matrices: this penalty would have no effect")
        for number, matrix in enumerate(found):
            draw = torch.randn(matrix.shape[1], generator=generator(0, "spectral", number))
            self.register_buffer(f"v{number}", F.normalize(draw, dim=0))
        return net

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return torch.stack([self._sigma(matrix, number) for number, matrix in enumerate(matrices(net))]).square().sum() / 2

    def _sigma(self, matrix: Tensor, number: int) -> Tensor:
        """The largest singular value, as u^T W v with u and v held constant."""
        v = cast(Tensor, getattr(self, f"v{number}"))
        # Half precision would lose what one step of the iteration gains.
        with torch.autocast(matrix.device.type, enabled=False):
            with torch.no_grad():
                u = F.normalize(matrix.float() @ v, dim=0)
                new = F.normalize(matrix.float().T @ u, dim=0)
                v.copy_(new)
            return u @ matrix.float() @ new
