import pytest
import torch
from pydantic import ValidationError

from temper.models import CNN, MLP, Normalize, PreActResNet18

IMAGE = {"classes": 10, "mean": [0.5], "std": [0.25]}


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (1, 7, 9)])
@pytest.mark.parametrize("model", [CNN, MLP, PreActResNet18])
def test_logits_for_any_image(model: type, shape: tuple[int, ...]) -> None:
    width = {} if model is MLP else {"width": 2}
    assert model(shape=shape, **IMAGE, **width)(torch.rand(3, *shape)).shape == (3, 10)


def test_the_resnet_has_the_parameters_of_the_literature() -> None:
    net = PreActResNet18(shape=(3, 32, 32), classes=10, mean=[0.5] * 3, std=[0.5] * 3)
    assert sum(parameter.numel() for parameter in net.parameters()) == 11_172_170


def test_normalization_is_inside_and_not_trained() -> None:
    normalize = Normalize([0.5, 0.1], [0.25, 2.0], dims=3)
    x = torch.rand(4, 2, 3, 3)
    expected = torch.stack([(x[:, 0] - 0.5) / 0.25, (x[:, 1] - 0.1) / 2], dim=1)
    torch.testing.assert_close(normalize(x), expected)
    assert not list(normalize.parameters()) and not normalize.state_dict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"width": 0}, "width"), ({"width": "wide"}, "width"), ({"shape": (8,)}, "images"), ({"std": [0.0]}, "positive")],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises((ValidationError, ValueError), match=message):
        CNN(**({"shape": (1, 8, 8)} | IMAGE | arguments))  # type: ignore[arg-type]
