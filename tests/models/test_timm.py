"""Tests of timm networks: built for the data, attacked and regularized like the built-in ones."""

from pathlib import Path
from typing import Any

import pytest
import torch

from temper.config.errors import ConfigError
from temper.data.loading import load_data
from temper.models import Timm
from temper.sweeps.preflight import validate
from temper.training.modules import build_module
from tests.conftest import composed

timm = pytest.importorskip("timm")

VIT = ("model=timm", "model.name=vit_tiny_patch16_224", "+model.arguments.patch_size=4", "+model.arguments.depth=2")
NETWORKS = {
    "resnet": ("model=timm", "model.name=test_resnet"),
    "transformer": VIT,
    "convnext": ("model=timm", "model.name=test_convnext", "model.size=32"),
}


def build(**arguments: Any) -> Timm:
    defaults: dict[str, Any] = {"shape": (3, 32, 32), "classes": 7, "mean": [0.4] * 3, "std": [0.2] * 3}
    return Timm(**defaults | arguments)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto"])
def test_networks_fit_the_channels_and_classes_of_the_data(name: str) -> None:
    net = build(name=name, shape=(1, 32, 32), mean=[0.4], std=[0.2])
    assert net(torch.rand(2, 1, 32, 32)).shape == (2, 7)


def test_inputs_are_normalized_and_scaled_before_the_timm_network() -> None:
    torch.manual_seed(0)
    net = build(name="test_resnet", size=48).eval()
    torch.manual_seed(0)
    reference = timm.create_model("test_resnet", num_classes=7).eval()
    x = torch.rand(2, 3, 32, 32)
    scaled = torch.nn.functional.interpolate((x - 0.4) / 0.2, (48, 48), mode="bilinear")
    torch.testing.assert_close(net(x), reference(scaled))


def test_pretrained_weights_bring_their_own_normalization(tmp_path: Path) -> None:
    published = timm.create_model("test_resnet", num_classes=7)
    torch.save(published.state_dict(), tmp_path / "published.pt")
    overlay = {"file": str(tmp_path / "published.pt"), "num_classes": 7, "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
    net = build(name="test_resnet", pretrained=True, arguments={"pretrained_cfg_overlay": overlay}).eval()
    x = torch.rand(2, 3, 32, 32)
    normalized = (x - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    torch.testing.assert_close(net(x), published.eval()(normalized))
    gray = build(
        name="test_resnet", shape=(1, 32, 32), mean=[0.4], std=[0.2], pretrained=True,
        arguments={"pretrained_cfg_overlay": overlay},
    )  # fmt: skip
    torch.testing.assert_close(gray.normalize.mean.flatten(), torch.tensor([0.2]))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("attack", ["none", "pgd", "trades"])
def test_attacks_and_penalties_work(network: str, attack: str) -> None:
    penalties = "penalty=[l2,label_smoothing,cutout,input_gradient,awp,rotation,spectral]"
    config = composed(*NETWORKS[network], f"attack={attack}", penalties, "evaluation=quick")
    validate(config)
    module = build_module(config).train()
    batch = module.penalties.transform(next(iter(load_data(config).loader("train", batch_size=16, seed=0))))
    x_adv = module.attack.perturb(module.net, batch)
    assert torch.equal(x_adv, batch.x) == (attack == "none")
    loss = module.loss(module.net, batch, x_adv)
    (loss.risk + sum(loss.terms.values())).backward()
    gradients = [parameter.grad for parameter in module.net.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model.name=resnet19",), r"model\.name: timm has no network resnet19\. Did you mean resnet18"),
        (("model.name=resnet18", "+model.arguments.bananas=3"), r"model\.name: timm cannot build resnet18 .*bananas"),
        (("model.name=vit_tiny_patch16_224",), r"does not accept inputs of shape \[1, 8, 8\].*model\.size=224.*patch_size=4"),
        (("model.name=convnext_atto",), r"convnext_atto of timm does not accept inputs of shape \[1, 8, 8\].*model\.size=224"),
        (("model.name=test_resnet", "penalty=stochastic_depth"), r"penalty\.stochastic_depth: Timm has no place for"),
        (("model.name=test_resnet", "data.shape=[64]"), r"model\.shape: networks of timm take images"),
    ],
)
def test_errors_name_the_problem_and_the_way_out(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_module(composed("model=timm", *overrides))
