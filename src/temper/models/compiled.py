"""A network whose parts are compiled."""

import torch
import torch._dynamo.config
import torch._functorch.config
from torch import nn

# Train and eval mode, with and without a gradient of weights, of the input, of both; a full and a short batch of each.
GRAPHS = 64


def compile_parts(net: nn.Module, backend: str = "inductor") -> None:
    """Compile each part of a network in place with `torch.compile`; keys of the state dict and copies of the network are not
    touched.

    Parts are the children of the network; the network itself stays as it is, so that hooks on it see every pass. Each must be
    one graph: what cannot be compiled is an error at the first pass, never left out. A second size of batch makes the size
    variable; a third one compiles nothing.

    Args:
        backend: "inductor", or "aot_eager", which only traces and needs no C++ compiler.
    """
    torch.compiler.reset()  # what an earlier run of this process compiled counts towards the limit
    torch._dynamo.config.cache_size_limit = max(torch._dynamo.config.cache_size_limit, GRAPHS)
    # Ratios of gradients go backward through a graph more than once.
    torch._functorch.config.donated_buffer = False
    for part in _parts(net):
        part.compile(backend=backend, fullgraph=True)


def _parts(net: nn.Module) -> list[nn.Module]:
    """The outermost modules below a network that are called as such: those of a list or dict, not the container."""
    found: list[nn.Module] = []
    for child in net.children():
        found += _parts(child) if isinstance(child, nn.ModuleList | nn.ModuleDict) else [child]
    return found
