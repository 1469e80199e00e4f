"""Networks of timm."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from temper.config.errors import first_line
from temper.config.types import Count, checked
from temper.models.external import check_logits
from temper.models.network import Network, Normalize


class Timm(Network):
    """A network of timm (Wightman 2019, https://github.com/huggingface/pytorch-image-models) with the classes of the data.

    A network for one fixed image size, such as a vision transformer, is built for the size of the data, or for `size`.

    Args:
        name: Name of the network, one of `timm.list_models()`.
        shape: Shape of one input, (C, H, W).
        classes: Number of logits.
        mean: Mean of each input channel. Pretrained weights use their own, averaged if the data has other channels.
        std: Standard deviation of each input channel. Pretrained weights use their own, as for `mean`.
        pretrained: Start from published weights, which timm downloads. The last layer is new if the classes differ.
        size: Rows and columns to which the network scales its images, so that attacks differentiate through the scaling. None
            means no scaling.
        arguments: Further arguments of `timm.create_model`, such as patch_size, drop_rate or drop_path_rate.

    Raises:
        ValueError: timm is not installed, does not have or cannot build this network, or the network does not accept images of
            this size.
    """

    @checked
    def __init__(
        self,
        *,
        name: str,
        shape: Sequence[int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        pretrained: bool = False,
        size: Count | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ValueError(f"shape: networks of timm take images (C, H, W), not inputs of shape {list(shape)}.")
        channels, rows, columns = shape
        image = (rows, columns) if size is None else (size, size)
        options = {"pretrained": pretrained, "in_chans": channels, "num_classes": classes, **(arguments or {})}
        self.module = _create(name, options, image)
        if pretrained:
            published = cast(dict[str, Any], self.module.pretrained_cfg)
            mean, std = (_for_channels(published[key], channels) for key in ("mean", "std"))
        self.normalize = Normalize(mean, std, dims=3)
        self.resize = nn.Identity() if size is None else nn.Upsample(image, mode="bilinear")
        way_out = (
            "Scale the images up inside the network with model.size=224, or use smaller patches in a transformer with "
            "+model.arguments.patch_size=4."
        )
        check_logits(self, f"name: {name} of timm", shape, classes, way_out=way_out)

    def logits(self, z: Tensor) -> Tensor:
        out: Tensor = self.module(self.resize(self.normalize(z)))
        return out


def _create(name: str, options: dict[str, Any], image: tuple[int, int]) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise ValueError(f"name: {name} needs timm, which is not installed. Run pip install 'temper[timm]'.") from None
    if not timm.is_model(name):
        similar = ", ".join(difflib.get_close_matches(name, timm.list_models(), cutoff=0))
        raise ValueError(f"name: timm has no network {name}. Did you mean {similar}?")
    published = timm.get_pretrained_cfg(name)
    if published is not None and published.fixed_input_size:
        options = {"img_size": image, **options}
    try:
        module: nn.Module = timm.create_model(name, **options)
    except Exception as error:  # the code of a network and a download raise many types
        way_out = " Without a network, set model.pretrained=false." if options["pretrained"] else ""
        raise ValueError(
            f"name: timm cannot build {name} with these model.arguments ({first_line(error)}).{way_out}"
        ) from error
    for part in module.modules():
        if hasattr(part, "fused_attn"):
            # Fused kernels are not twice differentiable, which penalties on gradients require.
            part.fused_attn = False  # type: ignore[assignment]
    return module


def _for_channels(values: Sequence[float], channels: int) -> list[float]:
    return list(values) if len(values) == channels else [sum(values) / len(values)] * channels
