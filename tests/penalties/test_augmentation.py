"""Tests of noise, cutout, and crops and flips."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from temper.config.errors import ConfigError
from temper.data import Batch
from temper.penalties import CropFlip, CutMix, Cutout, Mixup, Noise, Penalty, Rotation
from temper.training.modules import build_penalties
from tests.penalties.conftest import composed, images

SIZES = st.sampled_from([(8, 8), (7, 10), (12, 5)])


def test_unclipped_noise_is_normal() -> None:
    torch.manual_seed(0)
    batch = Batch.of(torch.full((500, 3, 8, 8), 0.5), torch.zeros(500, dtype=torch.int64))
    moved = Noise(std=0.05).transform(batch).x - batch.x
    assert moved.mean().item() == pytest.approx(0, abs=1e-3)
    assert moved.std().item() == pytest.approx(0.05, rel=0.01)
    assert (moved.abs() < 0.05).float().mean().item() == pytest.approx(0.6827, abs=0.01)


@given(std=st.floats(0.01, 5), lower=st.floats(-2, 0), upper=st.floats(1, 2), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_noise_stays_in_the_valid_range(std: float, lower: float, upper: float, seed: int) -> None:
    torch.manual_seed(seed)
    batch = images(seed=seed)
    x = Noise(std=std, lower=lower, upper=upper).transform(batch).x
    assert x.min() >= torch.tensor(lower) and x.max() <= torch.tensor(upper) and not torch.equal(x, batch.x)


def test_noise_respects_the_mask() -> None:
    batch = images()
    mask = torch.zeros_like(batch.x)
    mask[:, :, :4] = 1
    x = Noise(std=0.3).transform(replace(batch, mask=mask)).x
    assert torch.equal(x[:, :, 4:], batch.x[:, :, 4:]) and not torch.equal(x[:, :, :4], batch.x[:, :, :4])


def test_noise_refuses_an_empty_range() -> None:
    with pytest.raises(ValueError, match=r"lower: 1 is not below upper=0"):
        Noise(std=0.1, lower=1, upper=0)


@given(share=st.floats(0.01, 1), size=SIZES, seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_cutout_covers_only_a_square(share: float, size: tuple[int, int], seed: int) -> None:
    torch.manual_seed(seed)
    batch = images(6, (2, *size), seed=seed)
    fill = [2.0, 3.0]
    cut = Cutout(share=share, fill=fill).transform(batch)
    assert torch.equal(cut.y, batch.y) and torch.equal(cut.target, batch.target)
    side = max(1, round(share * max(size)))
    covered = (cut.x == torch.tensor(fill).view(1, 2, 1, 1)).all(1)
    assert torch.equal(cut.x[:, 0][~covered], batch.x[:, 0][~covered]) and torch.equal(
        cut.x[:, 1][~covered], batch.x[:, 1][~covered]
    )
    for image in covered:
        rows, columns = image.any(1), image.any(0)
        assert torch.equal(image, rows[:, None] & columns), "a rectangle"
        for edge, length in ((rows, size[0]), (columns, size[1])):
            pixels = edge.nonzero().flatten()
            # The center is inside, so at least half of the square is.
            assert min(side // 2, length) <= len(pixels) <= side
            assert len(pixels) == int(pixels[-1] - pixels[0]) + 1, "contiguous"


def test_cutout_positions_differ_between_images_and_are_uniform() -> None:
    torch.manual_seed(0)
    cut = Cutout(share=0.25, fill=[2.0]).transform(images(400))
    covered = (cut.x == 2)[:, 0].float().mean(0)
    assert len({tuple(image.flatten().tolist()) for image in (cut.x == 2)}) > 30
    # The center is uniform, so all inner pixels are covered equally often, by 2 x 2 of 8 x 8 positions.
    torch.testing.assert_close(covered[1:7, 1:7], torch.full((6, 6), 4 / 64), atol=0.05, rtol=0)


def shifted(image: Tensor, down: int, right: int, padding: int) -> Tensor:
    """Return a crop of the padded image, as torchvision's RandomCrop does."""
    rows, columns = image.shape[1:]
    padded = F.pad(image, (padding,) * 4)
    return padded[:, padding + down : padding + down + rows, padding + right : padding + right + columns]


@given(padding=st.floats(0, 0.5), flip=st.sampled_from([0.0, 0.5, 1.0]), size=SIZES, seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_crop_flip_gives_a_crop_of_the_padded_image(padding: float, flip: float, size: tuple[int, int], seed: int) -> None:
    torch.manual_seed(seed)
    batch = images(5, (2, *size), seed=seed)
    augmented = CropFlip(padding=padding, flip=flip).transform(batch)
    assert torch.equal(augmented.y, batch.y) and augmented.x.shape == batch.x.shape
    max_shift = round(padding * max(size))
    moves = [(down, right) for down in range(-max_shift, max_shift + 1) for right in range(-max_shift, max_shift + 1)]
    for before, after in zip(batch.x, augmented.x, strict=True):
        mirrored = before.flip(2)
        plain = any(torch.equal(after, shifted(before, *move, max_shift)) for move in moves)
        flipped = any(torch.equal(after, shifted(mirrored, *move, max_shift)) for move in moves)
        assert plain or flipped
        if flip in (0, 1) and bool(after.any()):
            assert flipped if flip else plain


def test_flip_with_probability_1_mirrors_the_image() -> None:
    batch = images()
    assert torch.equal(CropFlip(padding=0, flip=1).transform(batch).x, batch.x.flip(3))
    assert CropFlip(padding=0, flip=0).transform(batch) is batch


def test_flips_and_shifts_have_the_right_frequencies() -> None:
    torch.manual_seed(0)
    x = images(1).x.expand(600, -1, -1, -1)
    batch = Batch.of(x, torch.zeros(600, dtype=torch.int64))
    mirrored = (CropFlip(padding=0, flip=0.5).transform(batch).x == x.flip(3)).flatten(1).all(1)
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.07)
    moved = CropFlip(padding=0.125, flip=0).transform(batch).x
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            fraction = (moved == shifted(x[0], down, right, 1)).flatten(1).all(1).float().mean().item()
            assert fraction == pytest.approx(1 / 9, abs=0.05)


FOR_IMAGES = [
    Cutout(share=0.5, fill=[0.0]),
    CropFlip(padding=0.1, flip=0),
    CutMix(alpha=1, classes=2),
    Rotation(),
]


@pytest.mark.parametrize("penalty", FOR_IMAGES)
def test_image_penalties_refuse_other_inputs(penalty: Penalty) -> None:
    with pytest.raises(ValueError, match=r"inputs of shape \[5\] are not images"):
        penalty.transform(Batch.of(torch.rand(4, 5), torch.zeros(4, dtype=torch.int64)))


@pytest.mark.parametrize("penalty", [Noise(std=0.1), Mixup(alpha=1, classes=2)])
def test_noise_and_mixup_accept_any_inputs(penalty: Penalty) -> None:
    batch = Batch.of(torch.rand(4, 5), torch.zeros(4, dtype=torch.int64))
    assert penalty.transform(batch).x.shape == (4, 5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("penalty.cutout.share=1.5", r"penalty\.cutout\.share"),
        ("penalty.noise.std=-1", r"penalty\.noise\.std"),
        ("penalty.noise.lower=2", r"penalty\.noise"),
        ("penalty.crop_flip.flip=2", r"penalty\.crop_flip\.flip"),
    ],
)
def test_errors_name_the_setting(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_penalties(composed("penalty=[cutout,noise,crop_flip]", setting))
