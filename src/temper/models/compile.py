"""A network that is run by compiled kernels, and in the layout that these want."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar, cast

import torch
import torch._dynamo.config
import torch._functorch.config
from torch import Tensor, nn

# Train and eval mode, with and without a gradient of weights, of the input, of both; full and short batches of each.
GRAPHS = 64

Compile = Literal["cuda_graphs"] | bool
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Compiler:
    """`torch.compile`, as `model.compile` asks for it. What cannot be compiled is an error at the first pass, never left out.

    Each size of batch has kernels of its own: one graph for all sizes would be slower for the full batch too.

    Attributes:
        backend: of `torch.compile`: "inductor", or "aot_eager", which only traces and needs no C++ compiler.
        cuda_graphs: launch the kernels of a pass as one graph. What a pass returns is copied, since the next one writes where
            it lies.
    """

    backend: str | Callable[..., Any] = "inductor"
    cuda_graphs: bool = False

    @classmethod
    def of(cls, setting: Compile | None) -> Self | None:
        """None where nothing is compiled."""
        return cls(cuda_graphs=setting == "cuda_graphs") if setting else None

    def network(self, net: nn.Module) -> None:
        """Compile each part of a network in place; keys of the state dict and copies of the network are not touched.

        Parts are the children of the network; the network itself stays as it is, so that hooks on it see every pass.
        """
        torch.compiler.reset()  # what an earlier run of this process compiled counts towards the limit
        torch._dynamo.config.cache_size_limit = max(torch._dynamo.config.cache_size_limit, GRAPHS)
        # Ratios of gradients go backward through a graph more than once.
        torch._functorch.config.donated_buffer = False
        for part in _parts(net):
            part.compile(**self._options)
        if self.cuda_graphs:
            net.register_forward_hook(lambda module, x, logits: logits.clone())

    def function(self, function: Function) -> Function:
        """A function of tensors, compiled as a whole."""
        compiled = cast(Function, torch.compile(function, **self._options))
        if not self.cuda_graphs:
            return compiled

        def copied(*arguments: Any) -> Any:
            torch.compiler.cudagraph_mark_step_begin()
            return torch.utils._pytree.tree_map_only(Tensor, torch.clone, compiled(*arguments))

        return cast(Function, copied)

    @property
    def _options(self) -> dict[str, Any]:
        mode = "reduce-overhead" if self.cuda_graphs else None
        return {"backend": self.backend, "fullgraph": True, "dynamic": False, "mode": mode}


def _parts(net: nn.Module) -> list[nn.Module]:
    """The outermost modules below a network that are called as such: those of a list or dict, not the container."""
    found: list[nn.Module] = []
    for child in net.children():
        found += _parts(child) if isinstance(child, nn.ModuleList | nn.ModuleDict) else [child]
    return found


def lay_out(net: nn.Module, channels_last: bool | None, device: torch.device | str) -> None:
    """Put the channels of convolutions last in memory, which tensor cores want; None: on a GPU."""
    if channels_last or (channels_last is None and torch.device(device).type == "cuda"):
        net.to(memory_format=torch.channels_last)
