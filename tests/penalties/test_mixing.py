"""Mixtures: as much of the label as of the image."""

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


def shares(mixed: Batch) -> Tensor:
    """Of the own label, (B,)."""
    return mixed.target.gather(1, mixed.y[:, None]).squeeze(1)


def partners(mixed: Batch) -> Tensor:
    """Which example each is mixed with, itself where it is mixed with none."""
    rest = mixed.target.scatter(1, mixed.y[:, None], 0)
    return torch.where(rest.amax(1) > 0, rest.argmax(1), mixed.y)


@pytest.mark.parametrize("kind", [Mixup, CutMix])
@given(alpha=ALPHAS, seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_targets_are_probabilities_of_two_classes(kind: type[Mixup | CutMix], alpha: float, seed: int) -> None:
    torch.manual_seed(seed)
    batch = of_all_classes()
    mixed = kind(alpha=alpha, classes=10).transform(batch)
    torch.testing.assert_close(mixed.target.sum(1), torch.ones(10))
    assert (mixed.target >= 0).all() and ((mixed.target > 0).sum(1) <= 2).all()
    assert torch.equal(mixed.y, batch.y) and torch.equal(mixed.index, batch.index)


@given(alpha=ALPHAS, seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_mixup_mixes_image_and_label_alike(alpha: float, seed: int) -> None:
    torch.manual_seed(seed)
    batch = of_all_classes(seed=seed)
    mixed = Mixup(alpha=alpha, classes=10).transform(batch)
    share, other = shares(mixed), partners(mixed)
    assert (share >= 0.5).all(), "y keeps the larger share"
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
    other = partners(mixed)
    torch.testing.assert_close(shares(mixed), kept(batch, mixed))
    foreign = (mixed.x != batch.x).any(1)
    torch.testing.assert_close(mixed.x, torch.where(foreign[:, None], batch.x[other], batch.x))
    for image in foreign:
        assert torch.equal(image, image.any(1)[:, None] & image.any(0)), "a box"


@pytest.mark.parametrize("size", [8, 28, 32])
def test_the_larger_part_of_a_cutmix_keeps_its_label(size: int) -> None:
    smallest = 1.0
    for seed in range(150):
        torch.manual_seed(seed)
        mixed = CutMix(alpha=5, classes=10).transform(of_all_classes((1, size, size)))
        smallest = min(smallest, float(shares(mixed).min()))
    assert smallest >= 0.5


@pytest.mark.parametrize("kind", [Mixup, CutMix])
def test_the_shares_follow_a_beta_distribution(kind: type[Mixup | CutMix]) -> None:
    """With alpha 1 the larger share of two is uniform between 1/2 and 1."""
    torch.manual_seed(0)
    found = []
    for _ in range(400):
        mixed = kind(alpha=1, classes=10).transform(of_all_classes((1, 28, 28)))
        found.append(float(shares(mixed).min()))
    assert torch.tensor(found).mean().item() == pytest.approx(0.75 if kind is Mixup else 0.82, abs=0.05)


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
    share, other = shares(hard)[:, None], partners(hard)
    soft = softened(batch)
    torch.manual_seed(3)
    torch.testing.assert_close(penalty.transform(soft).target, share * soft.target + (1 - share) * soft.target[other])


@pytest.mark.parametrize("kind", [Mixup, CutMix])
def test_mixtures_of_one_class_keep_their_label(kind: type[Mixup | CutMix]) -> None:
    batch = Batch.of(images(6).x, torch.full((6,), 3))
    torch.testing.assert_close(shares(kind(alpha=1, classes=10).transform(batch)), torch.ones(6))


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
