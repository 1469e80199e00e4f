"""How far a network can stretch its inputs, at most: a product over its layers."""

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, svds
from torch import Tensor, nn

from temper.models import Network, Normalize
from temper.runs.seeding import generator


def lipschitz_bound(net: Network, shape: Sequence[int]) -> float | None:
    """Upper bound on the l2-to-l2 Lipschitz constant from inputs in their own range to logits, in eval mode.

    The product of the layers' operator norms (Szegedy et al. 2014, sec. 4.3, https://arxiv.org/abs/1312.6199). Those of
    convolutions are the norms of the whole linear maps, with stride and padding at the size at which they act, where Yoshida &
    Miyato 2017 (https://arxiv.org/abs/1705.10941) reshape the kernel to a matrix, whose norm can be smaller. The bound is
    sound and loose: it compares networks of one architecture.

    Args:
        shape: of one input.

    Returns:
        The bound; None where this gives none: the network is no chain of layers, one of them is unknown here or has no global
        bound (group and layer norm, whose gain grows as the variance of one example shrinks), or a weight is not finite.
    """
    layers = getattr(net, "layers", None)
    if not isinstance(layers, nn.Sequential) or not all(map(_kind, layers)):
        return None
    # Copies: flags, gradients and buffers of the originals stay as they are, and single precision does not round.
    net, layers = copy.deepcopy((net, layers))
    net.cpu().double().eval()
    if not all(parameter.isfinite().all() for parameter in net.parameters()):
        return None
    x = torch.rand(1, *shape, generator=generator(0, "lipschitz"), dtype=torch.float64)
    with torch.no_grad():
        z, bound = x, 1.0
        for layer in layers:
            bound *= GAINS[_kind(layer)](layer, z)
            z = layer(z)
        whole = torch.equal(z, net(x))  # the layers are all that the network does
    return bound if whole and math.isfinite(bound) else None


def operator_norm(layer: nn.Module, z: Tensor) -> float:
    """Largest singular value of the linear part of an affine layer, by Lanczos iteration on the layer and its transpose.

    To the precision of double: plain power iteration stalls where a convolution's largest singular values lie close together,
    as those of neighbouring frequencies do.

    Args:
        z: an input, (1, ...); its shape alone matters.
    """
    z = torch.zeros_like(z, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        out = layer(z)
    shift = out.detach()

    def forward(a: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return (layer(torch.from_numpy(a).reshape(z.shape)) - shift).flatten().numpy()

    def transposed(b: np.ndarray) -> np.ndarray:
        (gradient,) = torch.autograd.grad(out, z, torch.from_numpy(b).reshape(out.shape), retain_graph=True)
        return gradient.flatten().numpy()

    if z.numel() == 1:
        return float(np.linalg.norm(forward(np.ones(1))))
    if out.numel() == 1:
        return float(np.linalg.norm(transposed(np.ones(1))))
    start = torch.randn(min(z.numel(), out.numel()), generator=generator(0, "lipschitz"), dtype=torch.float64).numpy()
    if not (transposed(start) if out.numel() < z.numel() else forward(start)).any():
        return 0.0  # a layer of zeros, of which the library would complain
    linear = LinearOperator((out.numel(), z.numel()), matvec=forward, rmatvec=transposed, dtype=np.float64)
    return float(svds(linear, k=1, v0=start, return_singular_vectors=False)[0])


def _one(layer: nn.Module, z: Tensor) -> float:
    return 1.0


def _normalize(layer: nn.Module, z: Tensor) -> float:
    assert isinstance(layer, Normalize)
    return 1 / float(layer.std.min())


def _linear(layer: nn.Module, z: Tensor) -> float:
    assert isinstance(layer, nn.Linear)
    return float(torch.linalg.matrix_norm(layer.weight, ord=2))


def _batch_norm(layer: nn.Module, z: Tensor) -> float:
    assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
    if layer.running_var is None:  # it normalizes by the batch in eval mode, too
        return math.inf
    gain = (layer.running_var + layer.eps).rsqrt()
    return float((gain if layer.weight is None else gain * layer.weight.abs()).max())


def _max_pool(layer: nn.Module, z: Tensor) -> float:
    """An input may be the largest of every window that it lies in."""
    assert isinstance(layer, nn.MaxPool2d)
    kernel, stride, dilation = (
        (value, value) if isinstance(value, int) else value for value in (layer.kernel_size, layer.stride, layer.dilation)
    )
    windows = (k if d > 1 else math.ceil(k / s) for k, s, d in zip(kernel, stride, dilation, strict=True))
    return math.sqrt(math.prod(windows))


GAINS: dict[type[nn.Module] | None, Callable[[nn.Module, Tensor], float]] = {
    Normalize: _normalize,
    nn.Linear: _linear,
    nn.modules.batchnorm._BatchNorm: _batch_norm,
    nn.MaxPool2d: _max_pool,
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.AvgPool2d, nn.AdaptiveAvgPool2d), operator_norm),
    **dict.fromkeys((nn.Identity, nn.Flatten, nn.ReLU, nn.Tanh, nn.Sigmoid), _one),
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), _one),
}


def _kind(layer: nn.Module) -> type[nn.Module] | None:
    """The known layer that this one computes the same as: a parametrized layer is a subclass, and so may be something else."""
    return next((kind for kind in GAINS if kind and isinstance(layer, kind) and type(layer).forward is kind.forward), None)
