"""Upper bound on the Lipschitz constant of a network: a product over its layers."""

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
    """Return an upper bound on the l2-to-l2 Lipschitz constant from raw inputs to logits, in eval mode.

    The bound is the product of the layers' operator norms (Szegedy et al. 2014, sec. 4.3, https://arxiv.org/abs/1312.6199). The
    norm of a convolution is that of the whole linear map, with stride and padding at its actual input size. Yoshida & Miyato
    2017 (https://arxiv.org/abs/1705.10941) reshape the kernel to a matrix instead, whose norm can be smaller. The bound is
    sound but loose: use it to compare networks of one architecture.

    Args:
        net: the network; it is not modified.
        shape: of one input.

    Returns:
        The bound, or None if there is none: the network is not a chain of layers, a layer is unknown or has no global bound
        (group and layer norm, whose gain grows as the variance of one example shrinks), or a weight is not finite.
    """
    layers = getattr(net, "layers", None)
    if not isinstance(layers, nn.Sequential) or not all(map(_known_type, layers)):
        return None
    # A copy leaves flags, gradients and buffers of the original unchanged; double precision avoids rounding errors.
    net, layers = copy.deepcopy((net, layers))
    net.cpu().double().eval()
    if not all(parameter.isfinite().all() for parameter in net.parameters()):
        return None
    x = torch.rand(1, *shape, generator=generator(0, "lipschitz"), dtype=torch.float64)
    with torch.no_grad():
        z, bound = x, 1.0
        for layer in layers:
            bound *= NORMS[_known_type(layer)](layer, z)
            z = layer(z)
        complete = torch.equal(z, net(x))  # the network computes nothing but its layers
    return bound if complete and math.isfinite(bound) else None


def operator_norm(layer: nn.Module, z: Tensor) -> float:
    """Return the largest singular value of the linear part of an affine layer, to double precision.

    It is computed by Lanczos iteration on the layer and its transpose. Plain power iteration stalls where the largest singular
    values of a convolution are close together, as those of neighboring frequencies are.

    Args:
        layer: an affine layer in double precision.
        z: an input, (1, ...); only its shape matters.
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
        return 0.0  # svds fails on a layer of zeros
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
    if layer.running_var is None:  # normalizes by the batch in eval mode too
        return math.inf
    gain = (layer.running_var + layer.eps).rsqrt()
    return float((gain if layer.weight is None else gain * layer.weight.abs()).max())


def _max_pool(layer: nn.Module, z: Tensor) -> float:
    """Return the square root of the number of windows that share an input, which may be the largest in all of them."""
    assert isinstance(layer, nn.MaxPool2d)
    kernel, stride, dilation = (
        (value, value) if isinstance(value, int) else value for value in (layer.kernel_size, layer.stride, layer.dilation)
    )
    windows = (k if d > 1 else math.ceil(k / s) for k, s, d in zip(kernel, stride, dilation, strict=True))
    return math.sqrt(math.prod(windows))


NORMS: dict[type[nn.Module] | None, Callable[[nn.Module, Tensor], float]] = {
    Normalize: _normalize,
    nn.Linear: _linear,
    nn.modules.batchnorm._BatchNorm: _batch_norm,
    nn.MaxPool2d: _max_pool,
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.AvgPool2d, nn.AdaptiveAvgPool2d), operator_norm),
    **dict.fromkeys((nn.Identity, nn.Flatten, nn.ReLU, nn.Tanh, nn.Sigmoid), _one),
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), _one),
}


def _known_type(layer: nn.Module) -> type[nn.Module] | None:
    """Return the type in `NORMS` whose forward pass the layer uses, or None.

    A parametrized layer is a subclass with the same forward pass; other subclasses may compute something else.
    """
    return next((kind for kind in NORMS if kind and isinstance(layer, kind) and type(layer).forward is kind.forward), None)
