"""Corruptions against scipy, Pillow, torchvision, matplotlib's HSV and closed forms; accuracy under them by counting."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from omegaconf import OmegaConf
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter, uniform_filter
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as vision

from temper.data import DataModule, Loader
from temper.evaluation.corruptions import CORRUPTIONS, SEVERITIES, Corruptions, applicable, corrupt

RANDOM = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "motion_blur", "elastic")


@pytest.fixture(scope="module")
def crops() -> Tensor:
    """Return 32x32 crops of two photographs, downsampled by a factor of five, (N, 3, 32, 32)."""
    photos = torch.stack([torch.tensor(photo) for photo in load_sample_images().images]).movedim(-1, 1).float() / 255
    small = nn.functional.interpolate(photos, scale_factor=1 / 5, mode="area")
    return small.unfold(2, 32, 16).unfold(3, 32, 16).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 32, 32)


@pytest.fixture
def images(crops: Tensor, digits: DataModule) -> Callable[[str], Tensor]:
    def of(kind: str) -> Tensor:
        return {
            "digits": digits.split("test")[0],
            "color": crops,
            "wide": crops[:, :, :11],
            "tall": crops[:, :1, :, :8],
            "extremes": torch.stack([torch.zeros(3, 9, 9), torch.ones(3, 9, 9), torch.eye(9).expand(3, 9, 9)]),
        }[kind]

    return of


def seeded_corrupt(x: Tensor, name: str, severity: int, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return corrupt(x, name, severity)


@pytest.mark.parametrize("kind", ["digits", "color", "wide", "tall", "extremes"])
def test_results_are_new_images_of_the_same_shape_in_0_to_1(kind: str, images: Callable[[str], Tensor]) -> None:
    x = images(kind)[:20]
    before = x.clone()
    for name in applicable(x.shape[1:]):
        for severity in SEVERITIES:
            corrupted = seeded_corrupt(x, name, severity)
            assert corrupted.shape == x.shape and corrupted.dtype == torch.float32, name
            assert corrupted.min() >= 0 and corrupted.max() <= 1, name
            assert torch.equal(x, before) and corrupted.data_ptr() != x.data_ptr(), name


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_gives_the_same_result(name: str, crops: Tensor) -> None:
    first = seeded_corrupt(crops, name, 3)
    assert torch.equal(seeded_corrupt(crops, name, 3), first)
    assert torch.equal(seeded_corrupt(crops.to(memory_format=torch.channels_last), name, 3), first), "in any memory format"
    assert torch.equal(seeded_corrupt(crops, name, 3, seed=1), first) == (name not in RANDOM)
    if name in RANDOM:
        copies = seeded_corrupt(crops[:1].expand(2, -1, -1, -1), name, 3)
        assert not torch.equal(copies[0], copies[1]), "each image has its own draw"


@pytest.mark.parametrize("kind", ["digits", "color"])
def test_distortion_does_not_fall_with_severity(kind: str, images: Callable[[str], Tensor]) -> None:
    x = images(kind)
    for name in applicable(x.shape[1:]):
        distortion = torch.stack([(seeded_corrupt(x, name, severity) - x).square().mean() for severity in SEVERITIES])
        assert (distortion > 0).all(), name
        # The published saturate removes color at 1 and 2 and adds it from 3 on. With 8 pixels a side the published pixelate has
        # three sizes (7, 6 and 5), of which the last happens to be closer to x than the second.
        runs = {("saturate", "color"): [slice(0, 2), slice(2, 5)], ("pixelate", "digits"): [slice(0, 4)]}
        for run in runs.get((name, kind), [slice(0, 5)]):
            assert (distortion[run].diff() >= -1e-7).all(), (name, distortion)


GRAY = torch.full((40, 3, 32, 32), 0.5)


@pytest.mark.parametrize(("severity", "std"), list(enumerate((0.04, 0.06, 0.08, 0.09, 0.10), start=1)))
def test_gaussian_noise_has_the_given_std(severity: int, std: float) -> None:
    noise = seeded_corrupt(GRAY, "gaussian_noise", severity) - 0.5
    assert noise.std().item() == pytest.approx(std, rel=0.02) and abs(noise.mean().item()) < 0.01 * std


@pytest.mark.parametrize(("severity", "std"), list(enumerate((0.06, 0.1, 0.12, 0.16, 0.2), start=1)))
def test_speckle_noise_is_proportional_to_the_value(severity: int, std: float) -> None:
    for value in (0.25, 0.5):
        noise = seeded_corrupt(2 * value * GRAY, "speckle_noise", severity) - value
        assert noise.std().item() == pytest.approx(std * value, rel=0.02)


@pytest.mark.parametrize(("severity", "rate"), list(enumerate((500, 250, 100, 75, 50), start=1)))
def test_shot_noise_is_a_poisson_count(severity: int, rate: int) -> None:
    noisy = seeded_corrupt(GRAY, "shot_noise", severity)
    assert noisy.mean().item() == pytest.approx(0.5, abs=2e-3)
    assert noisy.var().item() == pytest.approx(0.5 / rate, rel=0.05), "the variance of a Poisson count is its mean"
    torch.testing.assert_close(noisy * rate, (noisy * rate).round(), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("severity", "amount"), list(enumerate((0.01, 0.02, 0.03, 0.05, 0.07), start=1)))
def test_impulse_noise_sets_the_given_fraction_to_0_or_1(severity: int, amount: float) -> None:
    noisy = seeded_corrupt(GRAY, "impulse_noise", severity)
    assert set(noisy.unique().tolist()) == {0.0, 0.5, 1.0}
    five_sigma = 5 * (amount / 2 / noisy.numel()) ** 0.5
    for extreme in (0, 1):
        assert (noisy == extreme).float().mean().item() == pytest.approx(amount / 2, abs=five_sigma)


@pytest.mark.parametrize(("severity", "sigma"), list(enumerate((0.4, 0.6, 0.7, 0.8, 1.0), start=1)))
def test_gaussian_blur_equals_scipy(severity: int, sigma: float, images: Callable[[str], Tensor]) -> None:
    for kind in ("digits", "color", "wide"):
        x = images(kind)[:10]
        expected = gaussian_filter(x.numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=4)
        np.testing.assert_allclose(corrupt(x, "gaussian_blur", severity), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("severity", "radius", "softness"), [(1, 0.3, 0.4), (2, 0.4, 0.5), (3, 0.5, 0.6), (4, 1, 0.2), (5, 1.5, 0.1)]
)
def test_defocus_blur_is_a_mean_over_a_softened_disk(severity: int, radius: float, softness: float, crops: Tensor) -> None:
    across, down = np.mgrid[-8:9, -8:9]
    disk = (across**2 + down**2 <= radius**2).astype(np.float64)
    kernel = gaussian_filter(disk / disk.sum(), softness, radius=1)
    expected = convolve(crops.numpy(), kernel[None, None], mode="mirror")
    np.testing.assert_allclose(corrupt(crops, "defocus_blur", severity), expected, atol=1e-5)


def test_defocus_blur_at_severity_5_is_a_mean_over_3x3(crops: Tensor) -> None:
    expected = uniform_filter(crops.numpy(), (1, 1, 3, 3), mode="mirror")
    np.testing.assert_allclose(corrupt(crops, "defocus_blur", 5), expected, atol=1e-5)


@pytest.mark.parametrize(("severity", "radius", "sigma"), [(1, 6, 1), (2, 6, 1.5), (3, 6, 2), (4, 8, 2), (5, 9, 2.5)])
def test_motion_blur_of_a_pixel_is_half_a_gaussian(
    severity: int, radius: int, sigma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    taps = np.arange(2 * radius + 1)
    trail = torch.tensor(np.exp(-(taps**2) / (2 * sigma**2)), dtype=torch.float32)
    expected = torch.zeros(32, 32)
    expected[16, 24 - taps] = trail / trail.sum()
    x = torch.zeros(2, 1, 32, 32)
    x[:, :, 16, 24] = 1
    angles = torch.tensor([0.5, 1.0])  # 0 and 45 degrees
    monkeypatch.setattr(torch, "rand", lambda *size, **options: angles)
    level, slanted = corrupt(x, "motion_blur", severity)[:, 0]
    torch.testing.assert_close(level, expected)
    assert torch.equal(slanted, slanted.triu(8).tril(8)) and slanted.sum().item() == pytest.approx(1)
    torch.testing.assert_close(corrupt(1 - x, "motion_blur", severity)[0, 0], 1 - expected)


@pytest.mark.parametrize(("severity", "shift"), list(enumerate((0.05, 0.1, 0.15, 0.2, 0.3), start=1)))
def test_brightness_raises_the_value(severity: int, shift: float, crops: Tensor) -> None:
    torch.testing.assert_close(corrupt(GRAY, "brightness", severity), GRAY + shift)
    torch.testing.assert_close(corrupt(0 * GRAY, "brightness", severity), 0 * GRAY + shift)
    hsv = rgb_to_hsv(crops.movedim(1, -1).double().numpy())
    hsv[..., 2] = np.clip(hsv[..., 2] + shift, 0, 1)
    np.testing.assert_allclose(corrupt(crops, "brightness", severity).movedim(1, -1), hsv_to_rgb(hsv), atol=1e-5)


@pytest.mark.parametrize(("severity", "factor", "shift"), [(1, 0.3, 0), (2, 0.1, 0), (3, 1.5, 0), (4, 2, 0.1), (5, 2.5, 0.2)])
def test_saturate_changes_the_saturation_of_hsv(severity: int, factor: float, shift: float, crops: Tensor) -> None:
    x = torch.cat([crops, GRAY[:1]])
    hsv = rgb_to_hsv(x.movedim(1, -1).double().numpy())
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + shift, 0, 1)
    np.testing.assert_allclose(corrupt(x, "saturate", severity).movedim(1, -1), hsv_to_rgb(hsv), atol=1e-5)


@pytest.mark.parametrize(("severity", "factor"), list(enumerate((0.75, 0.5, 0.4, 0.3, 0.15), start=1)))
def test_contrast_scales_each_channel_around_its_mean(severity: int, factor: float, crops: Tensor) -> None:
    torch.testing.assert_close(corrupt(GRAY, "contrast", severity), GRAY)
    expected = vision.adjust_contrast(crops.reshape(-1, 1, 32, 32), factor).reshape(crops.shape)
    torch.testing.assert_close(corrupt(crops, "contrast", severity), expected)


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (32, 32), (32, 20)])
def test_pixelate_equals_pillow(size: tuple[int, int]) -> None:
    height, width = size
    x = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    for severity, scale in enumerate((0.95, 0.9, 0.85, 0.75, 0.65), start=1):
        small = Image.fromarray(x[0, 0].numpy()).resize((int(width * scale), int(height * scale)), Image.Resampling.BOX)
        expected = np.asarray(small.resize((width, height), Image.Resampling.BOX))
        np.testing.assert_allclose(corrupt(x, "pixelate", severity)[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize(("severity", "quality"), list(enumerate((80, 65, 58, 50, 40), start=1)))
def test_jpeg_equals_pillow(severity: int, quality: int, images: Callable[[str], Tensor]) -> None:
    for kind in ("digits", "color"):
        x = images(kind)[:10]
        for image, corrupted in zip(x, corrupt(x, "jpeg_compression", severity), strict=True):
            file = BytesIO()
            pixels = (image * 255).round().to(torch.uint8).movedim(0, -1).squeeze(-1)
            Image.fromarray(pixels.numpy()).save(file, "JPEG", quality=quality)
            expected = torch.tensor(np.array(Image.open(file))).reshape(*x.shape[2:], -1).movedim(-1, 0)
            assert torch.equal(corrupted, expected.float() / 255)


def test_elastic_displaces_pixels_by_the_given_std(crops: Tensor) -> None:
    torch.testing.assert_close(seeded_corrupt(GRAY, "elastic", 5), GRAY)
    torch.testing.assert_close(CORRUPTIONS["elastic"].apply(crops, 0), crops, atol=1e-5, rtol=0)
    ramp = torch.linspace(0, 1, 64).expand(200, 1, 32, 64)
    for severity, std in enumerate((0.02, 0.03, 0.04, 0.05, 0.06), start=1):
        # Away from the border the change of a ramp is the displacement: std at a knot, and 0.72 of it midway between four
        # knots, because bicubic weights midway are -3/32, 19/32, 19/32, -3/32 along each axis.
        moved = (seeded_corrupt(ramp, "elastic", severity) - ramp)[..., 16:48]
        assert 0.72 * std < moved.square().mean().sqrt() < std


class Bright(nn.Module):
    """Predicts class 1 where the mean pixel is above one half; records its inputs and modes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.modes: set[bool] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        self.modes.add(self.training)
        score = x.flatten(1).mean(1) - 0.5
        return torch.stack([-score, score], dim=1)


def flat(values: list[float], batch_size: int) -> Loader:
    """Return constant images, all of class 1."""
    x = torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    return Loader(x, torch.ones(len(values), dtype=torch.int64), batch_size=batch_size)


def test_accuracy_counts_examples_not_batches() -> None:
    net = Bright()
    values = [0.1, 0.22, 0.33, 0.38, 0.42, 0.47, 0.9]
    corruptions = Corruptions(names=["brightness", "contrast"])
    outcomes = corruptions.outcomes(net, flat(values, batch_size=3), seed=0)
    assert list(outcomes) == [f"{name}/{severity}" for name in ("brightness", "contrast") for severity in range(1, 6)]
    # Each of the shifts 0.05, 0.1, 0.15, 0.2 and 0.3 moves one more image above one half; contrast moves none.
    for severity in range(1, 6):
        assert outcomes[f"brightness/{severity}"].tolist() == [False] * (6 - severity) + [True] * (severity + 1)
        assert outcomes[f"contrast/{severity}"].tolist() == [False] * 6 + [True]
    metrics = Corruptions.metrics(outcomes)
    assert metrics == pytest.approx(
        {
            "corruptions/brightness": (2 + 3 + 4 + 5 + 6) / 35,
            "corruptions/contrast": 1 / 7,
            "corruptions/mean": (20 / 35 + 1 / 7) / 2,
        }
    )
    assert net.modes == {False} and net.training, "evaluated in eval mode, then restored"


def test_draws_depend_only_on_seed_name_severity_and_batch() -> None:
    def seen(names: list[str], severities: list[int], seed: int = 0) -> list[Tensor]:
        net = Bright()
        Corruptions(names=names, severities=severities).outcomes(net, flat([0.5] * 4, batch_size=2), seed=seed)
        return net.seen

    single = seen(["speckle_noise"], [3])
    both = seen(["gaussian_noise", "speckle_noise"], [2, 3])
    assert len(single) == 2 and len(both) == 8
    assert torch.equal(single[0], both[3]) and torch.equal(single[1], both[7]), "independent of the other corruptions"
    assert not torch.equal(single[0], single[1]), "each batch has its own draw"
    assert not torch.equal(single[0], seen(["speckle_noise"], [3], seed=1)[0])
    # On mid-gray, noise of two severities would be the same draw scaled, unless the severity is part of the key.
    assert not torch.allclose((both[0] - 0.5) / 0.06, (both[1] - 0.5) / 0.08, atol=1e-3)


def test_all_applicable_corruptions_are_the_default(digits: DataModule) -> None:
    assert "saturate" not in applicable((1, 8, 8)) and len(applicable((1, 8, 8))) == len(CORRUPTIONS) - 1
    assert applicable((3, 32, 32)) == list(CORRUPTIONS)
    for shape in ((8,), (8, 8), (2, 8, 8), (3, 8, 7), (1, 3, 8, 8)):
        assert applicable(shape) == []
    x, y = digits.split("test")
    outcomes = Corruptions(severities=[2]).outcomes(Bright(), Loader(x[:5], y[:5], batch_size=5), seed=0)
    assert list(outcomes) == [f"{name}/2" for name in applicable((1, 8, 8))]
    assert all(right.shape == (5,) and right.dtype == torch.bool for right in outcomes.values())


def test_lists_of_a_config_are_accepted() -> None:
    config = OmegaConf.create({"names": ["contrast"], "severities": [1, 5]})
    corruptions = Corruptions(names=config.names, severities=config.severities)
    assert (corruptions.names, corruptions.severities) == (["contrast"], [1, 5])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ["contrast", "fogg"]}, r"names: 'fogg' is not a corruption\. Choose from gaussian_noise, .*elastic"),
        ({"severities": [1, 6]}, r"severities: 6 is not a severity\. Choose from 1, 2, 3, 4, 5"),
        ({"severities": [0]}, "severities: 0 is not a severity"),
        ({"severities": ["worst"]}, "severities"),
        ({"names": []}, "names: should have at least one entry"),
        ({"severities": []}, "severities: should have at least one entry"),
    ],
)
def test_wrong_settings_are_rejected(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Corruptions(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("x", "name", "severity", "message"),
    [
        (GRAY, "blur", 1, r"'blur' is not a corruption\. Choose from gaussian_noise"),
        (GRAY, "contrast", 6, r"6 is not a severity\. Choose from 1, 2, 3, 4, 5"),
        (GRAY[:, :1], "saturate", 1, r"saturate needs 3 channels, but images have shape \(1, 32, 32\)"),
        (GRAY[:, :2], "contrast", 1, r"1 or 3 channels and at least 8x8 pixels, but inputs have shape \(2, 32, 32\)"),
        (GRAY[..., :7], "contrast", 1, r"at least 8x8 pixels, but inputs have shape \(3, 32, 7\)"),
        (GRAY[0], "contrast", 1, r"\(B, C, H, W\), but is torch.float32 of shape \(3, 32, 32\)"),
        (GRAY.to(torch.uint8), "contrast", 1, "float images"),
    ],
)
def test_wrong_inputs_are_rejected(x: Tensor, name: str, severity: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corrupt(x, name, severity)


def test_wrong_data_are_rejected_before_anything_is_computed() -> None:
    y = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"corruptions: need images .* shape \(8,\)"):
        Corruptions().outcomes(Bright(), Loader(torch.rand(4, 8), y, batch_size=2), seed=0)
    net = Bright()
    with pytest.raises(ValueError, match="saturate needs 3 channels"):
        Corruptions(names=["contrast", "saturate"]).outcomes(net, flat([0.5] * 4, batch_size=2), seed=0)
    assert not net.seen
