"""Penalties on the largest singular values of the weights, which bound how far outputs move with inputs."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from temper.data.batch import Batch
from temper.models.network import Network
from temper.penalties.penalty import Penalty
from temper.penalties.weights import matrices
from temper.randomness import generator


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
