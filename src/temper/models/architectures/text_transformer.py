"""A small transformer for texts."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temper.config.types import Count, checked
from temper.models.architectures.text_network import TextNetwork
from temper.models.network import BranchSlot, DropoutSlot


class TextTransformer(TextNetwork):
    """Encoder blocks with the norm before each branch (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; Xiong et al.
    2020, https://arxiv.org/abs/2002.04745), learned positions, and the mean over the words of a text before the last layer.

    Args:
        vocabulary: number of tokens.
        length: most tokens of a text.
        classes: number of logits.
        dim: of an embedding and of every block.
        heads: of each attention; they divide `dim`.
        blocks: how many.
        hidden: units between the two layers of a block.
    """

    @checked
    def __init__(
        self,
        *,
        vocabulary: Count,
        length: Count,
        classes: int,
        dim: Count = 64,
        heads: Count = 4,
        blocks: Count = 2,
        hidden: Count = 128,
    ) -> None:
        super().__init__(vocabulary=vocabulary, dim=dim)
        if dim % heads:
            raise ValueError(f"heads: {heads} does not divide dim, {dim}")
        self.position = nn.Parameter(0.02 * torch.randn(length, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, hidden) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Sequential(DropoutSlot(), nn.Linear(dim, classes))

    def classify(self, embedded: Tensor, present: Tensor) -> Tensor:
        x = embedded + self.position[: embedded.shape[1]]
        for block in self.blocks:
            x = block(x, present)
        there = present.unsqueeze(2).to(x.dtype)
        logits: Tensor = self.head((self.norm(x) * there).sum(1) / there.sum(1).clamp_min(1))
        return logits


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.project, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), DropoutSlot(), nn.Linear(hidden, dim))
        self.drops = nn.ModuleList(nn.Sequential(DropoutSlot(), BranchSlot()) for _ in range(2))

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        x = x + self.drops[0](self._attention(self.norms[0](x), present))
        return x + self.drops[1](self.mlp(self.norms[1](x)))

    def _attention(self, x: Tensor, present: Tensor) -> Tensor:
        """Every position attends to the words that are there, (B, L, D)."""
        query, key, value = self.project(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # Written out: the fused kernels cannot be differentiated twice, as penalties on gradients ask for.
        scores = query @ key.transpose(2, 3) / key.shape[3] ** 0.5
        scores = scores.masked_fill(~present[:, None, None], -1e9)
        attended = (F.softmax(scores, dim=3) @ value).transpose(1, 2).flatten(2)
        out: Tensor = self.out(attended)
        return out
