"""Smoothed labels against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from temper.data import Batch
from temper.penalties import LabelSmoothing
from tests.penalties.conftest import images, softened


def test_smoothed_labels_are_those_of_torch(batch: Batch) -> None:
    logits = torch.randn(32, 10, generator=torch.Generator().manual_seed(0))
    smoothed = LabelSmoothing(smoothing=0.2, classes=10).transform(batch)
    torch.testing.assert_close(
        nn.functional.cross_entropy(logits, smoothed.target),
        nn.functional.cross_entropy(logits, batch.y, label_smoothing=0.2),
    )
    torch.testing.assert_close(smoothed.target.sum(1), torch.ones(32))
    assert torch.equal(smoothed.y, batch.y), "accuracy is still measured against hard labels"
    assert LabelSmoothing(smoothing=0, classes=10).transform(batch) is batch


@given(smoothing=st.floats(0.01, 1), classes=st.integers(2, 20), soft=st.booleans())
@settings(max_examples=25, deadline=None)
def test_hard_and_soft_targets_are_smoothed_as_torch_does(smoothing: float, classes: int, soft: bool) -> None:
    batch = images(classes=classes)
    batch = softened(batch, classes) if soft else batch
    logits = torch.randn(len(batch), classes, generator=torch.Generator().manual_seed(1))
    ours = F.cross_entropy(logits, LabelSmoothing(smoothing=smoothing, classes=classes).transform(batch).target)
    torch.testing.assert_close(ours, F.cross_entropy(logits, batch.target, label_smoothing=smoothing))


def test_wholly_smoothed_labels_say_nothing() -> None:
    target = LabelSmoothing(smoothing=1, classes=4).transform(images(classes=4)).target
    torch.testing.assert_close(target, torch.full((8, 4), 0.25))


def test_more_than_all_of_a_label_cannot_be_smoothed() -> None:
    with pytest.raises(ValueError, match="smoothing"):
        LabelSmoothing(smoothing=1.1, classes=10)
