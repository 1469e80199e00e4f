"""Compilation of a network and its memory layout."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar, cast

import torch
import torch._dynamo.config
import torch._functorch.config
from torch import Tensor, nn

# Train and eval mode, with gradients of nothing, weights, inputs or both, and full and short batches of each.
GRAPHS = 64

Compile = Literal["cuda_graphs"] | bool
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Compiler:
    """`torch.compile` with the settings of `model.compile`.

    Code that cannot be compiled raises an error at the first pass; it never falls back to eager mode. Each batch size has its
    own kernels, because one graph for all sizes would be slower for the full batch as well.

    Attributes:
        backend: Backend of `torch.compile`: "inductor", or "aot_eager", which only traces and needs no C++ compiler.
        cuda_graphs: Launch the kernels of a pass as one CUDA graph. The results of a pass are copied, because the next pass
            overwrites their memory.
    """

    backend: str | Callable[..., Any] = "inductor"
    cuda_graphs: bool = False

    @classmethod
    def of(cls, setting: Compile | None) -> Self | None:
        """Return the compiler for a value of `model.compile`, or None if nothing is compiled."""
        return cls(cuda_graphs=setting == "cuda_graphs") if setting else None

    def compile_network(self, net: nn.Module) -> None:
        """Compile the parts of a network in place. Its state dict and its copies are not affected.

        The parts are the children of the network. The network itself is not compiled, so that its hooks run at every pass.
        """
        torch.compiler.reset()  # graphs of earlier runs in this process count towards the limit
        torch._dynamo.config.cache_size_limit = max(torch._dynamo.config.cache_size_limit, GRAPHS)
        # Gradient ratios go backward through a graph more than once.
        torch._functorch.config.donated_buffer = False
        for part in _parts(net):
            part.compile(**self._options)
        if self.cuda_graphs:
            net.register_forward_hook(lambda module, x, logits: logits.clone())

    def compile_function(self, function: Function) -> Function:
        """Return a function of tensors, compiled as a whole."""
        compiled = cast(Function, torch.compile(function, **self._options))
        if not self.cuda_graphs:
            return compiled

        def call_and_copy(*arguments: Any) -> Any:
            torch.compiler.cudagraph_mark_step_begin()
            return torch.utils._pytree.tree_map_only(Tensor, torch.clone, compiled(*arguments))

        return cast(Function, call_and_copy)

    @property
    def _options(self) -> dict[str, Any]:
        mode = "reduce-overhead" if self.cuda_graphs else None
        return {"backend": self.backend, "fullgraph": True, "dynamic": False, "mode": mode}


def _parts(net: nn.Module) -> list[nn.Module]:
    """Return the outermost submodules that are called: the elements of a `ModuleList` or `ModuleDict`, not the container."""
    parts: list[nn.Module] = []
    for child in net.children():
        parts += _parts(child) if isinstance(child, nn.ModuleList | nn.ModuleDict) else [child]
    return parts


def lay_out(net: nn.Module, channels_last: bool | None, device: torch.device | str) -> None:
    """Set the memory layout of a network, in place.

    Args:
        net: The network.
        channels_last: Store the channels of convolutions last, which tensor cores need. None means only on a GPU.
        device: Device on which the network runs.
    """
    if channels_last or (channels_last is None and torch.device(device).type == "cuda"):
        net.to(memory_format=torch.channels_last)
