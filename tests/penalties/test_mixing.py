"""Tests of mixup and CutMix: images and labels are mixed in the same proportion."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from temper.data import Batch
from temper.penalties import CutMix, LabelSmoothing, Mixup, Penalties, Penalty, Weighted
from tests.penalties.conftest import images, softened

ALPHAS = st.floats(0.05, 5)


def of_all_classes(shape: tuple[int, ...] = (1, 8, 8), seed: int = 0) -> Batch:
    """Return one example of each of ten classes, so the target identifies the two mixed examples."""
    batch = images(10, shape, seed=seed)
    return Batch.of(batch.x, torch.arange(10))


def kept_labels(batch: Batch, mixed: Batch) -> Tensor:
    """Return the fraction of its own label that each example keeps, (B,)."""
    return mixed.target.gather(1, batch.y[:, None]).squeeze(1)


def partners(batch: Batch, mixed: Batch) -> Tensor:
    """Return the index of the example that each one is mixed with, its own if there is none, (B,)."""
    rest = mixed.target.scatter(1, batch.y[:, None], 0)
    return torch.where(rest.amax(1) > 0, rest.argmax(1), batch.y)


@pytest.mark.parametrize("kind", [Mixup, CutMix])
@given(alpha=ALPHAS, seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_targets_are_probabilities_of_two_classes(kind: type[Mixup | CutMix], alpha: float, seed: int) -> None:
    torch.manual_seed(seed)
    batch = of_all_classes()
    mixed = kind(alpha=alpha, classes=10).transform(batch)
    torch.testing.assert_close(mixed.target.sum(1), torch.ones(10))
    assert (mixed.target >= 0).all() and ((mixed.target > 0).sum(1) <= 2).all()
    assert torch.equal(mixed.index, batch.index)


@pytest.mark.parametrize("kind", [Mixup, CutMix])
@pytest.mark.parametrize("size", [8, 28, 32])
def test_y_is_the_label_of_the_larger_fraction(kind: type[Mixup | CutMix], size: int) -> None:
    for seed in range(100):
        torch.manual_seed(seed)
        mixed = kind(alpha=5, classes=10).transform(of_all_classes((1, size, size)))
        own = mixed.target.gather(1, mixed.y[:, None]).squeeze(1)
        assert (own >= 0.5).all() and torch.equal(own, mixed.target.amax(1))


@given(alpha=ALPHAS, seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_mixup_mixes_images_and_labels_with_the_same_fraction(alpha: float, seed: int) -> None:
    torch.manual_seed(seed)
    batch = of_all_classes(seed=seed)
    mixed = Mixup(alpha=alpha, classes=10).transform(batch)
    fraction, other = kept_labels(batch, mixed), partners(batch, mixed)
    assert (fraction >= 0.5).all() and torch.equal(mixed.y, batch.y)
    kept = fraction[:, None, None, None]
    torch.testing.assert_close(mixed.x, kept * batch.x + (1 - kept) * batch.x[other])
    assert sorted(other.tolist()) == list(range(10)), "each image is a partner once"


def kept_pixels(batch: Batch, mixed: Batch) -> Tensor:
    """Return the fraction of the pixels that each image keeps, (B,)."""
    return (mixed.x == batch.x).all(1).float().flatten(1).mean(1)


@given(alpha=ALPHAS, seed=st.integers(0, 10_000), size=st.sampled_from([(8, 8), (7, 10)]))
@settings(max_examples=60, deadline=None)
def test_cutmix_mixes_labels_in_proportion_to_the_area(alpha: float, seed: int, size: tuple[int, int]) -> None:
    torch.manual_seed(seed)
    batch = of_all_classes((2, *size), seed=seed)
    mixed = CutMix(alpha=alpha, classes=10).transform(batch)
    other = partners(batch, mixed)
    torch.testing.assert_close(kept_labels(batch, mixed), kept_pixels(batch, mixed))
    foreign = (mixed.x != batch.x).any(1)
    torch.testing.assert_close(mixed.x, torch.where(foreign[:, None], batch.x[other], batch.x))
    for image in foreign:
        assert torch.equal(image, image.any(1)[:, None] & image.any(0)), "a box"


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 4.0])
def test_fractions_follow_a_beta_distribution(alpha: float) -> None:
    torch.manual_seed(0)
    batch = of_all_classes((1, 2, 2))
    fractions = torch.stack([kept_labels(batch, Mixup(alpha=alpha, classes=10).transform(batch)).min() for _ in range(500)])
    expected = np.maximum(draws := np.random.default_rng(0).beta(alpha, alpha, 20_000), 1 - draws)
    for fraction in (0.1, 0.5, 0.9):
        assert float(fractions.quantile(fraction)) == pytest.approx(float(np.quantile(expected, fraction)), abs=0.04)


@pytest.mark.parametrize("kind", [Mixup, CutMix])
def test_alpha_0_mixes_nothing(kind: type[Mixup | CutMix]) -> None:
    batch = of_all_classes()
    assert kind(alpha=0, classes=10).transform(batch) is batch


@pytest.mark.parametrize("kind", [Mixup, CutMix])
def test_soft_targets_are_mixed(kind: type[Mixup | CutMix]) -> None:
    batch = of_all_classes()
    penalty = kind(alpha=1, classes=10)
    torch.manual_seed(3)
    hard = penalty.transform(batch)
    fraction, other = kept_labels(batch, hard)[:, None], partners(batch, hard)
    soft = softened(batch)
    torch.manual_seed(3)
    torch.testing.assert_close(penalty.transform(soft).target, fraction * soft.target + (1 - fraction) * soft.target[other])


@pytest.mark.parametrize("kind", [Mixup, CutMix])
def test_mixtures_of_one_class_keep_their_label(kind: type[Mixup | CutMix]) -> None:
    batch = Batch.of(images(6).x, torch.full((6,), 3))
    torch.testing.assert_close(kept_labels(batch, kind(alpha=1, classes=10).transform(batch)), torch.ones(6))


def test_label_smoothing_acts_after_mixing() -> None:
    members: dict[str, Penalty] = {
        "label_smoothing": LabelSmoothing(smoothing=0.2, classes=10),
        "mixup": Mixup(alpha=1, classes=10),
    }
    penalties = Penalties({name: Weighted(penalty, 1) for name, penalty in members.items()})
    assert penalties.names == ["mixup", "label_smoothing"]
    batch = of_all_classes()
    torch.manual_seed(0)
    both = penalties.transform(batch)
    torch.manual_seed(0)
    mixed = Mixup(alpha=1, classes=10).transform(batch)
    torch.testing.assert_close(both.target, 0.8 * mixed.target + 0.02)
