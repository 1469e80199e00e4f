"""A convolutional network for texts."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temper.config.types import Count, checked
from temper.models.architectures.text_network import TextNetwork
from temper.models.network import DropoutSlot, NormSlot


class TextCNN(TextNetwork):
    """Kim 2014 (https://arxiv.org/abs/1408.5882): filters over windows of several widths, and of each its maximum over time.

    Windows may reach over both ends of a text, so that one of a single word has some; those beyond do not count, so that
    padding changes nothing.

    Args:
        vocabulary: number of tokens.
        classes: number of logits.
        dim: of an embedding (300 in the paper, pretrained).
        filters: of each width (100 in the paper).
        widths: of the windows, in tokens.
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
        found = []
        for width, window in zip(self.widths, self.windows, strict=True):
            reaches = F.max_pool1d(F.pad(present, (width - 1, width - 1)), width, stride=1)
            found.append((window(embedded) * reaches).amax(2))  # the least that a filter can find is 0
        logits: Tensor = self.head(torch.cat(found, dim=1))
        return logits
