"""A convolutional network for texts."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temper.config.types import Count, checked
from temper.models.architectures.text_network import TextNetwork
from temper.models.network import DropoutSlot, NormSlot


class TextCNN(TextNetwork):
    """Convolutional network for texts (Kim 2014, https://arxiv.org/abs/1408.5882).

    Filters of several window widths, each followed by its maximum over time. Windows may extend over both ends of a text, so
    that even a single word has windows. Windows without any word do not count, so that padding has no effect.

    Args:
        vocabulary: Number of tokens.
        classes: Number of logits.
        dim: Dimension of the embeddings (300 in the paper, pretrained).
        filters: Filters of each width (100 in the paper).
        widths: Widths of the windows, in tokens.
    """

    @checked
    def __init__(
        self, *, vocabulary: Count, classes: int, dim: Count = 64, filters: Count = 64, widths: Sequence[Count] = (3, 4, 5)
    ) -> None:
        super().__init__(vocabulary=vocabulary, dim=dim)
        self.widths = list(widths)
        self.windows = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(dim, filters, width, padding=width - 1), NormSlot(filters, dims=1), nn.ReLU(), DropoutSlot(dims=1)
            )
            for width in widths
        )
        self.head = nn.Sequential(DropoutSlot(), nn.Linear(len(widths) * filters, classes))

    def classify(self, embedded: Tensor, present: Tensor) -> Tensor:
        embedded, present = embedded.transpose(1, 2), present[:, None].to(embedded.dtype)
        features = []
        for width, window in zip(self.widths, self.windows, strict=True):
            covers_word = F.max_pool1d(F.pad(present, (width - 1, width - 1)), width, stride=1)
            features.append((window(embedded) * covers_word).amax(2))  # 0 is neutral: the minimum after ReLU
        logits: Tensor = self.head(torch.cat(features, dim=1))
        return logits
