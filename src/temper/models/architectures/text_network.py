"""Base class of networks for texts, whose adversary moves in the space of the embeddings."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from temper.data.vocabulary import PAD
from temper.models.network import Network


class TextNetwork(Network):
    """Base class of networks from tokens (B, L) to logits, through scaled embeddings z (B, L, D).

    Embeddings are normalized to mean 0 and variance 1 over the tokens of the training split, weighted by frequency (Miyato et
    al. 2017, https://arxiv.org/abs/1605.07725, eq. 2). Otherwise a network could make perturbations insignificant by learning
    large embeddings. z is the normalized embeddings divided by sqrt(n D), where n is the number of words of the text: every
    text has an l2 norm of about 1, and a radius is a fraction of it. Padding is exactly 0.

    Args:
        vocabulary: Number of tokens.
        dim: Dimension of the embeddings, D.

    Attributes:
        frequency: Relative frequency of each token, (vocabulary,), with sum 1. Uniform until `observe` is called.
    """

    normalized = ("embedding",)
    frequency: Tensor

    def __init__(self, *, vocabulary: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.embedding = nn.Parameter(torch.randn(vocabulary, dim))
        self.register_buffer("frequency", torch.full((vocabulary,), 1 / vocabulary))

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        counts = x[x != PAD].bincount(minlength=len(self.frequency))
        if len(counts) > len(self.frequency):
            raise ValueError(
                f"model.vocabulary={len(self.frequency)}: the data has token {len(counts) - 1}. Set model.vocabulary to at "
                f"least {len(counts)}."
            )
        self.frequency.copy_(counts / counts.sum())

    def lift(self, x: Tensor) -> Tensor:
        if x.is_floating_point():
            return x
        present = x != PAD
        # Always in float32: a mean over a vocabulary sums many small parts.
        with torch.autocast(x.device.type, enabled=False):
            centered = self.embedding - self.frequency @ self.embedding
            normalized = centered * (self.frequency @ centered.square() + 1e-12).rsqrt()
            return nn.functional.embedding(x, normalized) * (present / self._length(present)).unsqueeze(2)

    def logits(self, z: Tensor) -> Tensor:
        present = (z != 0).any(2)
        return self.classify(z * (present * self._length(present)).unsqueeze(2), present)

    @abstractmethod
    def classify(self, embedded: Tensor, present: Tensor) -> Tensor:
        """Compute the logits (B, C).

        Args:
            embedded: Normalized embeddings, (B, L, D); 0 at padding.
            present: True at words and False at padding, (B, L).
        """

    def _length(self, present: Tensor) -> Tensor:
        """Return the l2 norm of a text whose embeddings have variance 1, (B, 1)."""
        return (present.sum(1, keepdim=True).clamp_min(1) * self.dim).sqrt()
