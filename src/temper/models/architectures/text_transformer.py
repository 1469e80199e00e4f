"""A small transformer for texts."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temper.config.types import Count, checked
from temper.models.architectures.text_network import TextNetwork
from temper.models.network import BranchSlot, DropoutSlot


class TextTransformer(TextNetwork):
    """Transformer encoder (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762) that classifies the mean over the words.

    The norm precedes each branch (pre-LN, Xiong et al. 2020, https://arxiv.org/abs/2002.04745), and positions are learned.

    Args:
        vocabulary: Number of tokens.
        length: Maximum number of tokens per text.
        classes: Number of logits.
        dim: Dimension of the embeddings and of every block.
        heads: Heads of each attention; a divisor of `dim`.
        blocks: Number of blocks.
        hidden: Units between the two linear layers of a block.

    Raises:
        ValueError: `heads` does not divide `dim`.
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
            raise ValueError(f"heads: {heads} does not divide dim={dim}. Use a divisor of dim.")
        self.position = nn.Parameter(0.02 * torch.randn(length, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, hidden) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Sequential(DropoutSlot(), nn.Linear(dim, classes))

    def classify(self, embedded: Tensor, present: Tensor) -> Tensor:
        x = embedded + self.position[: embedded.shape[1]]
        for block in self.blocks:
            x = block(x, present)
        weights = present.unsqueeze(2).to(x.dtype)
        logits: Tensor = self.head((self.norm(x) * weights).sum(1) / weights.sum(1).clamp_min(1))
        return logits


class Block(nn.Module):
    """Encoder block: x + attention(norm(x)), then x + mlp(norm(x)).

    Args:
        dim: Input and output units.
        heads: Attention heads.
        hidden: Hidden units of the MLP.
    """

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
        """Compute the attention of every position to the words of its text, (B, L, D)."""
        query, key, value = self.project(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # Explicit: fused kernels are not twice differentiable, which penalties on gradients require.
        scores = query @ key.transpose(2, 3) / key.shape[3] ** 0.5
        scores = scores.masked_fill(~present[:, None, None], -1e9)
        attended = (F.softmax(scores, dim=3) @ value).transpose(1, 2).flatten(2)
        out: Tensor = self.out(attended)
        return out
