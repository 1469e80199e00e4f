"""Accuracy under common corruptions (noise, blur, …) at five severities, computed on the fly from test images.

Hendrycks & Dietterich 2019 (https://arxiv.org/abs/1903.12261), with the severities of CIFAR-10-C. The published code
(https://github.com/hendrycks/robustness, make_cifar_c.py) is followed, including its treatment of borders; only `elastic` is
our own. Blur widths are in pixels and were chosen for 32x32 images: on smaller images the same severity removes more detail.
Unlike the published data set, results are not rounded to 8 bits (except jpeg). Fog, frost, snow, spatter, glass and zoom blur
are left out.

The operations come from torchvision and torch, because the package `imagecorruptions` fails on 32x32 images and with current
versions of scikit-image.
"""

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as vision

from temper.attacks import probing
from temper.config.types import checked
from temper.data import Batch, Loader
from temper.evaluation.ledger import Ledger
from temper.evaluation.metrics import fraction
from temper.runs.seeding import rekey

SEVERITIES = (1, 2, 3, 4, 5)
MIN_SIDE = 8  # pixels; a blur reflects up to 3 of them at the border, and pixelation needs some to merge
TINY = torch.finfo(torch.float32).tiny


# Each corruption takes x, (B, C, H, W) float32 in [0, 1], and the parameter of its severity. `corrupt` clips the result.


def gaussian_noise(x: Tensor, std: float) -> Tensor:
    """Add Gaussian noise of a standard deviation."""
    return x + std * torch.randn_like(x)


def shot_noise(x: Tensor, rate: float) -> Tensor:
    """Replace each value by a Poisson count of photons, of which white has `rate` on average."""
    return torch.poisson(x * rate) / rate


def impulse_noise(x: Tensor, amount: float) -> Tensor:
    """Set a fraction of all values, independently by channel, to 0 or 1 with equal probability."""
    draw = torch.rand_like(x)
    return x.masked_fill(draw < amount / 2, 0).masked_fill(draw > 1 - amount / 2, 1)


def speckle_noise(x: Tensor, std: float) -> Tensor:
    """Add Gaussian noise whose standard deviation is `std` times the value."""
    return x + x * std * torch.randn_like(x)


def defocus_blur(x: Tensor, disk: tuple[float, float]) -> Tensor:
    """Average over a disk whose edge is softened by a 3x3 Gaussian.

    Args:
        x: images, (B, C, H, W).
        disk: radius of the disk and standard deviation of the Gaussian, in pixels.
    """
    radius, softness = disk
    reach = int(radius) + 2
    squares = torch.arange(-reach, reach + 1, device=x.device) ** 2
    kernel = (squares + squares[:, None] <= radius**2).float()
    kernel = vision.gaussian_blur(kernel[None, None] / kernel.sum(), [3, 3], [softness])
    channels = x.shape[1]
    return F.conv2d(F.pad(x, [reach] * 4, mode="reflect"), kernel.expand(channels, -1, -1, -1), groups=channels)


def motion_blur(x: Tensor, trail: tuple[int, float]) -> Tensor:
    """Blur along one direction as ImageMagick does: half a Gaussian at an angle of -45 to 45 degrees, drawn per image.

    Args:
        x: images, (B, C, H, W).
        trail: radius, which gives 2 * radius + 1 pixels to one side, and standard deviation of the Gaussian, in pixels.
    """
    radius, sigma = trail
    height, width = x.shape[2:]
    angle = (torch.rand(len(x), device=x.device) - 0.5) * (math.pi / 2)
    steps = torch.arange(2 * radius + 1, device=x.device)
    image, blurred = x.movedim(1, -1), torch.zeros_like(x).movedim(1, -1)
    for step, weight in enumerate((-(steps**2) / (2 * sigma**2)).softmax(0)):
        rows = _shifted(height, step * angle.sin())[:, :, None]
        columns = _shifted(width, step * angle.cos())[:, None, :]
        blurred += weight * image[torch.arange(len(x), device=x.device)[:, None, None], rows, columns]
    return blurred.movedim(-1, 1)


def _shifted(size: int, offset: Tensor) -> Tensor:
    """Return the source pixel of each of `size` pixels after shifts by the offsets, (B,) -> (B, size); edges repeat."""
    whole = (offset - 0.5).ceil().long()
    return (torch.arange(size, device=offset.device) + whole[:, None]).clamp(0, size - 1)


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Blur as scikit-image does: the Gaussian is truncated at 4 sigma, edges repeat."""
    reach = int(4 * sigma + 0.5)
    padded = vision.pad(x, [reach], padding_mode="edge")  # torchvision's own border, a reflection, is cropped away
    return vision.center_crop(vision.gaussian_blur(padded, [2 * reach + 1] * 2, [sigma]), list(x.shape[2:]))


def brightness(x: Tensor, shift: float) -> Tensor:
    """Raise the V of HSV, which is the largest channel."""
    value = x.amax(1, keepdim=True)
    brighter = (value + shift).clamp(max=1)
    return torch.where(value > 0, x * (brighter / value.clamp_min(TINY)), brighter)


def contrast(x: Tensor, factor: float) -> Tensor:
    """Scale deviations from the mean of each channel; torchvision scales those from the mean of the gray image."""
    return x.mean((2, 3), keepdim=True).lerp(x, factor)


def saturate(x: Tensor, change: tuple[float, float]) -> Tensor:
    """Change the S of HSV; severities 1 and 2 remove color, 3 to 5 add it.

    Args:
        x: RGB images, (B, 3, H, W).
        change: a factor and a shift.
    """
    factor, shift = change
    value = x.amax(1, keepdim=True)
    chroma = value - x.amin(1, keepdim=True)
    saturation = (chroma / value.clamp_min(TINY) * factor + shift).clamp(0, 1)
    # The hue of a gray pixel is red in HSV, so a shift reddens it.
    red = x.new_tensor([0, 1, 1]).reshape(3, 1, 1)
    away = torch.where(chroma > 0, (value - x) / chroma.clamp_min(TINY), red)
    return value * (1 - saturation * away)


def pixelate(x: Tensor, scale: float) -> Tensor:
    """Downsample each side to a fraction of its pixels and upsample it again."""
    height, width = x.shape[2:]
    rows, columns = (_boxes(int(size * scale), size) @ _boxes(size, int(size * scale)) for size in (height, width))
    return rows.to(x.device) @ x @ columns.to(x.device).T


def _boxes(old: int, new: int) -> Tensor:
    """Return the matrix of Pillow's BOX resize along one axis, (new, old), which torchvision lacks for tensors.

    A new pixel is the mean of the old pixels whose centers are within its box.
    """
    # In units of 1 / (2 * new) old pixels all centers are whole numbers, so ties are exact.
    center, old_center = (2 * torch.arange(new) + 1) * old, (2 * torch.arange(old) + 1) * new
    distance, reach = old_center - center[:, None], max(old, new)
    inside = (distance > -reach) & (distance <= reach)
    return inside / inside.sum(1, keepdim=True)


def jpeg_compression(x: Tensor, quality: int) -> Tensor:
    """Compress with Pillow's encoder, as published, on any device; torchvision's own encoder of tensors is deprecated."""
    images = map(vision.to_pil_image, (x * 255).round().to("cpu", torch.uint8))
    return torch.stack([vision.pil_to_tensor(vision.jpeg(image, quality)) for image in images]).to(x.device) / 255


def elastic(x: Tensor, std: float) -> Tensor:
    """Displace a 4x4 grid of knots by Gaussian draws and interpolate the displacement between them.

    Our own: in the published elastic_transform a random affine map, strongest at severity 1, outweighs the elastic part.

    Args:
        x: images, (B, C, H, W).
        std: standard deviation of the displacement as a fraction of the side.
    """
    knots = torch.randn(len(x), 2, 4, 4, device=x.device)
    moves = vision.resize(knots, list(x.shape[2:]), InterpolationMode.BICUBIC).movedim(1, -1)
    identity = F.affine_grid(torch.eye(2, 3, device=x.device).expand(len(x), 2, 3), list(x.shape), align_corners=False)
    # A side has length 2 in the coordinates of grid_sample.
    return F.grid_sample(x, identity + 2 * std * moves, padding_mode="reflection", align_corners=False)


class Corruption(NamedTuple):
    """A corruption function and its parameter at severities 1 to 5."""

    apply: Callable[[Tensor, Any], Tensor]
    levels: Sequence[Any]


CORRUPTIONS = {
    "gaussian_noise": Corruption(gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": Corruption(shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": Corruption(impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "speckle_noise": Corruption(speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2)),
    "defocus_blur": Corruption(defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "motion_blur": Corruption(motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "gaussian_blur": Corruption(gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1)),
    "brightness": Corruption(brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": Corruption(contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "saturate": Corruption(saturate, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))),
    "pixelate": Corruption(pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": Corruption(jpeg_compression, (80, 65, 58, 50, 40)),
    "elastic": Corruption(elastic, (0.02, 0.03, 0.04, 0.05, 0.06)),  # not of the published set
}


def applicable(shape: Sequence[int]) -> list[str]:
    """Return the names of the corruptions that apply to inputs of shape (C, H, W); none if the inputs are not images."""
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape[1:]) < MIN_SIDE:
        return []
    return [name for name in CORRUPTIONS if name != "saturate" or shape[0] == 3]


def corrupt(x: Tensor, name: str, severity: int) -> Tensor:
    """Return corrupted copies of images; randomness comes from torch's default generator of their device.

    Args:
        x: (B, C, H, W) float in [0, 1], gray or RGB, at least 8x8.
        name: a key of `CORRUPTIONS`.
        severity: 1 to 5.

    Returns:
        (B, C, H, W) float32 in [0, 1].

    Raises:
        ValueError: the corruption or severity does not exist, or does not apply to such inputs.
    """
    _check([name], [severity])
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"x: should be float images, (B, C, H, W), but is {x.dtype} of shape {tuple(x.shape)}.")
    _check_shape([name], x.shape[1:])
    corruption = CORRUPTIONS[name]
    # Contiguous, because otherwise the order of the draws would depend on the memory format.
    return corruption.apply(x.float().contiguous(), corruption.levels[severity - 1]).clamp(0, 1)


def _check(names: Sequence[str], severities: Sequence[int]) -> None:
    for name in names:
        if name not in CORRUPTIONS:
            raise ValueError(f"names: {name!r} is not a corruption. Choose from {', '.join(CORRUPTIONS)}.")
    for severity in severities:
        if severity not in SEVERITIES:
            raise ValueError(f"severities: {severity!r} is not a severity. Choose from {', '.join(map(str, SEVERITIES))}.")


def _check_shape(names: Sequence[str], shape: Sequence[int]) -> None:
    possible = applicable(shape)
    if not possible:
        raise ValueError(
            f"corruptions: need images (C, H, W) with 1 or 3 channels and at least {MIN_SIDE}x{MIN_SIDE} pixels, but inputs "
            f"have shape {tuple(shape)}."
        )
    for name in names:
        if name not in possible:
            raise ValueError(f"names: {name} needs 3 channels, but images have shape {tuple(shape)}. Leave it out.")


class Corruptions:
    """Common corruptions that an evaluation applies.

    Args:
        names: keys of `CORRUPTIONS`; None: all that apply to the data.
        severities: out of 1 to 5.

    Raises:
        ValueError: a name or severity does not exist, or a list is empty.
    """

    @checked
    def __init__(self, *, names: Sequence[str] | None = None, severities: Sequence[int] = SEVERITIES) -> None:
        _check(names or (), severities)
        for key, given in (("names", names), ("severities", severities)):
            if given is not None and not len(given):
                raise ValueError(f"{key}: should have at least one entry.")
        self.names = None if names is None else list(names)
        self.severities = list(severities)

    def outcomes(self, net: nn.Module, loader: Loader, *, seed: int, ledger: Ledger | None = None) -> dict[str, Tensor]:
        """Classify every example under every corruption and severity.

        Args:
            net: the network, on the loader's device; evaluated in float32 and eval mode.
            loader: of a split.
            seed: of the run. The randomness of a corruption is keyed by the seed, its name, its severity and the batch, so it
                does not depend on which other corruptions are applied.
            ledger: stores finished batches; None stores nothing.

        Returns:
            By "<name>/<severity>", such as "gaussian_noise/3", True where an example is classified correctly, (N,) bool, on the
            CPU.

        Raises:
            ValueError: the inputs are not images, or a requested corruption does not apply to them.
        """
        shape = loader.x.shape[1:]
        _check_shape(self.names or (), shape)
        names = applicable(shape) if self.names is None else self.names
        kinds = [(name, severity) for name in names for severity in self.severities]
        ledger = Ledger() if ledger is None else ledger
        pieces = []
        with probing(net, "eval"), torch.no_grad():
            for number, batch in enumerate(ledger.track(loader, len(loader), "corruptions")):

                def compute(batch: Batch = batch, number: int = number) -> dict[str, Tensor]:
                    correct = {}
                    for name, severity in kinds:
                        rekey(seed, "corruption", name, severity, number)
                        correct[f"{name}/{severity}"] = net(corrupt(batch.x, name, severity)).argmax(1) == batch.y
                    return correct

                pieces.append(ledger.load_or_compute(f"corruptions-{number}", compute))
        return {key: torch.cat([piece[key] for piece in pieces]) for key in pieces[0]}

    @staticmethod
    def metrics(outcomes: dict[str, Tensor]) -> dict[str, float]:
        """Compute the accuracy under each corruption, averaged over severities, and its mean over corruptions.

        Args:
            outcomes: as `outcomes` returns them.
        """
        accuracies: dict[str, list[float]] = {}
        for key, correct in outcomes.items():
            accuracies.setdefault(key.split("/")[0], []).append(fraction(correct))
        means = {f"corruptions/{name}": fmean(values) for name, values in accuracies.items()}
        return means | {"corruptions/mean": fmean(means.values())}
