"""Mixtures: as much of the label as of the image."""

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
    """One example of each of ten classes, so that the target says which two are mixed."""
    batch = images(10, shape, seed=seed)
    return Batch.of(batch.x, torch.arange(10))


def shares(batch: Batch, mixed: Batch) -> Tensor:
    """Of the label that each example had, (B,)."""
    return mixed.target.gather(1, batch.y[:, None]).squeeze(1)


def partners(batch: Batch, mixed: Batch) -> Tensor:
    """Which example each is mixed with, itself where it is mixed with none."""
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
def test_y_is_the_label_of_the_larger_share(kind: type[Mixup | CutMix], size: int) -> None:
    for seed in range(100):
        torch.manual_seed(seed)
        mixed = kind(alpha=5, classes=10).transform(of_all_classes((1, size, size)))
        own = mixed.target.gather(1, mixed.y[:, None]).squeeze(1)
        assert (own >= 0.5).all() and torch.equal(own, mixed.target.amax(1))


@given(alpha=ALPHAS, seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_mixup_mixes_image_and_label_alike(alpha: float, seed: int) -> None:
    torch.manual_seed(seed)
    batch = of_all_classes(seed=seed)
    mixed = Mixup(alpha=alpha, classes=10).transform(batch)
    share, other = shares(batch, mixed), partners(batch, mixed)
    assert (share >= 0.5).all() and torch.equal(mixed.y, batch.y)
    own = share[:, None, None, None]
    torch.testing.assert_close(mixed.x, own * batch.x + (1 - own) * batch.x[other])
    assert sorted(other.tolist()) == list(range(10)), "each image is a partner once"


def kept(batch: Batch, mixed: Batch) -> Tensor:
    """Share of the pixels that are from the own image, (B,)."""
    return (mixed.x == batch.x).all(1).float().flatten(1).mean(1)


@given(alpha=ALPHAS, seed=st.integers(0, 10_000), size=st.sampled_from([(8, 8), (7, 10)]))
@settings(max_examples=60, deadline=None)
def test_cutmix_gives_as_much_of_the_label_as_of_the_pixels(alpha: float, seed: int, size: tuple[int, int]) -> None:
    torch.manual_seed(seed)
    batch = of_all_classes((2, *size), seed=seed)
    mixed = CutMix(alpha=alpha, classes=10).transform(batch)
    other = partners(batch, mixed)
    torch.testing.assert_close(shares(batch, mixed), kept(batch, mixed))
    foreign = (mixed.x != batch.x).any(1)
    torch.testing.assert_close(mixed.x, torch.where(foreign[:, None], batch.x[other], batch.x))
    for image in foreign:
        assert torch.equal(image, image.any(1)[:, None] & image.any(0)), "a box"


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 4.0])
def test_the_shares_follow_a_beta_distribution(alpha: float) -> None:
    torch.manual_seed(0)
    batch = of_all_classes((1, 2, 2))
    found = torch.stack([shares(batch, Mixup(alpha=alpha, classes=10).transform(batch)).min() for _ in range(500)])
    expected = np.maximum(draws := np.random.default_rng(0).beta(alpha, alpha, 20_000), 1 - draws)
    for share in (0.1, 0.5, 0.9):
        assert float(found.quantile(share)) == pytest.approx(float(np.quantile(expected, share)), abs=0.04)


@pytest.mark.parametrize("kind", [Mixup, CutMix])
def test_without_alpha_nothing_is_mixed(kind: type[Mixup | CutMix]) -> None:
    batch = of_all_classes()
    assert kind(alpha=0, classes=10).transform(batch) is batch


@pytest.mark.parametrize("kind", [Mixup, CutMix])
def test_soft_labels_are_mixed_too(kind: type[Mixup | CutMix]) -> None:
    batch = of_all_classes()
    penalty = kind(alpha=1, classes=10)
    torch.manual_seed(3)
    hard = penalty.transform(batch)
    share, other = shares(batch, hard)[:, None], partners(batch, hard)
    soft = softened(batch)
    torch.manual_seed(3)
    torch.testing.assert_close(penalty.transform(soft).target, share * soft.target + (1 - share) * soft.target[other])


@pytest.mark.parametrize("kind", [Mixup, CutMix])
def test_mixtures_of_one_class_keep_their_label(kind: type[Mixup | CutMix]) -> None:
    batch = Batch.of(images(6).x, torch.full((6,), 3))
    torch.testing.assert_close(shares(batch, kind(alpha=1, classes=10).transform(batch)), torch.ones(6))


def test_labels_are_smoothed_once_they_are_mixed() -> None:
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
