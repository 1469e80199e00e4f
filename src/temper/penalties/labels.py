"""Penalties on what the network is asked to predict."""

from dataclasses import replace

from temper.arguments import Count, Probability, checked
from temper.data.batch import Batch
from temper.penalties.penalty import Penalty, Stage


class LabelSmoothing(Penalty):
    """target = (1 - s) onehot(y) + s / C (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, sec. 7).

    The adversary in training climbs the same loss, and so sees the smoothed target too.

    Args:
        smoothing: s, the probability that is spread over all classes.
        classes: C.
    """

    stage = Stage.LABELS
    magnitude = "smoothing"
    largest = 0.95
    neutral = ("smoothing=0",)

    @checked
    def __init__(self, *, smoothing: Probability, classes: Count) -> None:
        super().__init__()
        self.smoothing, self.classes = smoothing, classes

    def transform(self, batch: Batch) -> Batch:
        if not self.smoothing:
            return batch
        target = batch.probabilities(self.classes)
        return replace(batch, target=target.lerp(target.new_full((), 1 / self.classes), self.smoothing))
