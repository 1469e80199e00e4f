"""Networks that read tokens: the adversary moves in the space of their embeddings."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from temper.data.vocabulary import PAD
from temper.models.network import Network


class TextNetwork(Network):
    """Tokens (B, L) to logits, by way of scaled embeddings z (B, L, D).

    Embeddings are normalized to mean 0 and variance 1 over the tokens of the training split, each as often as it occurs there
    (Miyato et al. 2017, https://arxiv.org/abs/1605.07725, eq. 2): else a network could make perturbations insignificant by
    embeddings that are long. z is those divided by sqrt(n D), n the number of words of the text, so that every text is about
    as long as 1 in l2, and a radius is a share of that. Padding is exactly 0.

    Args:
        vocabulary: number of tokens.
        dim: D.

    Attributes:
        frequency: how often each token occurs, (vocabulary,), adding up to 1; equally often until `observe` has seen.
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
            raise ValueError(f"model.vocabulary is {len(self.frequency)}, but the data have token {len(counts) - 1}")
        self.frequency.copy_(counts / counts.sum())

    def lift(self, x: Tensor) -> Tensor:
        if x.is_floating_point():
            return x
        present = x != PAD
        # In float32 whatever the precision of the rest: a mean over a vocabulary adds up many small parts.
        with torch.autocast(x.device.type, enabled=False):
            centred = self.embedding - self.frequency @ self.embedding
            normal = centred * (self.frequency @ centred.square() + 1e-12).rsqrt()
            return nn.functional.embedding(x, normal) * (present / self._length(present)).unsqueeze(2)

    def logits(self, z: Tensor) -> Tensor:
        present = (z != 0).any(2)
        return self.classify(z * (present * self._length(present)).unsqueeze(2), present)

    @abstractmethod
    def classify(self, embedded: Tensor, present: Tensor) -> Tensor:
        """Logits (B, C).

        Args:
            embedded: normalized embeddings, (B, L, D); 0 at padding.
            present: where there is a word, (B, L) bool.
        """

    def _length(self, present: Tensor) -> Tensor:
        """Of a text's embeddings that have variance 1, (B, 1)."""
        return (present.sum(1, keepdim=True).clamp_min(1) * self.dim).sqrt()
