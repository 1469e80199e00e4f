"""The networks of timm."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from temper.config.types import Count, checked
from temper.models.external import check_logits, first_line
from temper.models.network import Network, Normalize


class Timm(Network):
    """A network of timm (Wightman 2019, https://github.com/huggingface/pytorch-image-models) for the data's classes.

    One that is built for images of one size, as vision transformers are, is built for that of the data, or for `size`.

    Args:
        name: as `timm.list_models()` has it.
        shape: of one input, (C, H, W).
        classes: number of logits.
        mean, std: of each input channel. Pretrained weights bring their own, averaged where the data have other channels.
        pretrained: start from published weights, which timm downloads; the last layer is new where classes differ.
        size: rows and columns that images are scaled to inside the network, so that attacks see through it; None: as they are.
        arguments: further ones of `timm.create_model`, such as patch_size, drop_rate, drop_path_rate.

    Raises:
        ValueError: timm has no such network, cannot build it so, or it does not take images of this size.
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
            raise ValueError(f"shape: networks of timm take images (C, H, W), not inputs of shape {list(shape)}")
        channels, rows, columns = shape
        image = (rows, columns) if size is None else (size, size)
        given = {"pretrained": pretrained, "in_chans": channels, "num_classes": classes, **(arguments or {})}
        self.module = _create(name, given, image)
        if pretrained:
            own = cast(dict[str, Any], self.module.pretrained_cfg)
            mean, std = (_for_channels(own[key], channels) for key in ("mean", "std"))
        self.normalize = Normalize(mean, std, dims=3)
        self.resize = nn.Identity() if size is None else nn.Upsample(image, mode="bilinear")
        way_out = (
            "model.size=224 scales images up inside it, and +model.arguments.patch_size=4 makes a transformer's patches smaller"
        )
        check_logits(self, f"name: {name} of timm", shape, classes, way_out=way_out)

    def logits(self, z: Tensor) -> Tensor:
        out: Tensor = self.module(self.resize(self.normalize(z)))
        return out


def _create(name: str, arguments: dict[str, Any], image: tuple[int, int]) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise ValueError(f"name: {name} comes with timm, which is not installed: pip install 'temper[timm]'") from None
    if not timm.is_model(name):
        alike = ", ".join(difflib.get_close_matches(name, timm.list_models(), cutoff=0))
        raise ValueError(f"name: timm has no network {name}; did you mean {alike}?")
    published = timm.get_pretrained_cfg(name)
    if published is not None and published.fixed_input_size:
        arguments = {"img_size": image, **arguments}
    try:
        module: nn.Module = timm.create_model(name, **arguments)
    except Exception as error:  # whatever a network's own code or a download raises
        way_out = "; without a network set model.pretrained=false" if arguments["pretrained"] else ""
        raise ValueError(f"name: timm cannot build {name} with model.arguments: {first_line(error)}{way_out}") from error
    for part in module.modules():
        if hasattr(part, "fused_attn"):
            # Its kernels cannot be differentiated twice, as penalties on gradients ask for.
            part.fused_attn = False  # type: ignore[assignment]
    return module


def _for_channels(values: Sequence[float], channels: int) -> list[float]:
    return list(values) if len(values) == channels else [sum(values) / len(values)] * channels
