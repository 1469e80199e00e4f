"""Adapter to torchattacks, and AutoAttack compared with it."""

import numpy as np
import pytest
import torch
import torchattacks

from temper.attacks import L2, PGD, AutoAttack, Linf, Threat, TorchAttack
from temper.data import Batch, DataModule
from temper.models import CNN


@pytest.mark.parametrize(
    ("name", "threat", "options"),
    [
        ("FGSM", Linf(eps=0.1), {}),
        ("MIFGSM", Linf(eps=0.1), {"steps": 3}),
        ("APGD", Linf(eps=0.1), {"steps": 5}),
        ("APGD", L2(eps=0.5), {"steps": 5, "loss": "dlr"}),
        ("PGDL2", L2(eps=0.5), {"steps": 3}),
        ("Square", Linf(eps=0.1), {"n_queries": 20}),
        ("FAB", L2(eps=0.5), {"steps": 3}),
        ("CW", L2(eps=0.5), {"steps": 3}),
        ("GN", Linf(eps=0.1), {}),
        ("Pixle", Linf(eps=0.1), {}),
    ],
)
def test_points_are_inside_the_set(name: str, threat: Threat, options: dict[str, object], trained: CNN, batch: Batch) -> None:
    x_adv = TorchAttack(threat=threat, attack=name, options=options).perturb(trained, batch)
    assert (threat.length(x_adv.double() - batch.x.double()) <= threat.eps).all()
    assert x_adv.min() >= 0 and x_adv.max() <= 1


@pytest.mark.parametrize("name", ["BIM", "MIFGSM", "FFGSM", "PGD"])
def test_step_size_scales_with_the_radius(name: str, trained: CNN, batch: Batch) -> None:
    """With the default step of torchattacks, 2/255, most of a large set would be out of reach."""
    x_adv = TorchAttack(threat=Linf(eps=0.3), attack=name).perturb(trained, batch)
    assert Linf(eps=0.3).length(x_adv - batch.x).max() > 0.29
    assert TorchAttack(threat=Linf(eps=0.3), attack=name, options={"alpha": 0.01}).options["alpha"] == 0.01


@pytest.mark.parametrize(("name", "options"), [("APGD", {}), ("Square", {"n_queries": 300}), ("PGD", {}), ("Pixle", {})])
def test_same_seed_gives_same_points(name: str, options: dict[str, int], trained: CNN, batch: Batch) -> None:
    attack = TorchAttack(threat=Linf(eps=0.1), attack=name, options=options)
    results = []
    for seed, numpy_seed in ((3, 0), (3, 1)):
        torch.manual_seed(seed)
        np.random.seed(numpy_seed)
        before = np.random.get_state(legacy=True)[1]  # type: ignore[index]
        results.append(attack.perturb(trained, batch))
        assert (np.random.get_state()[1] == before).all(), "numpy's global state is restored"  # type: ignore[index]
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attack": "Nonsense"}, "no attack named 'Nonsense'"),
        ({"attack": "nn"}, "no attack named 'nn'"),
        ({"attack": "PGD", "options": {"stepz": 3}}, "takes no stepz"),
        ({"attack": "PGDL2"}, "l2 attack, but the threat is linf"),
        ({"attack": "PGD", "threat": Linf(eps=0.1, lower=-1)}, r"\[0, 1\]"),
    ],
)
def test_invalid_arguments_are_rejected(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TorchAttack(**({"threat": Linf(eps=0.1)} | arguments))  # type: ignore[arg-type]


def test_autoattack_is_at_least_as_strong_as_apgd_and_pgd(trained: CNN, digits: DataModule) -> None:
    x, y = digits.split("test")
    batch, threat = Batch.of(x[:60], y[:60]), Linf(eps=0.06)

    def withstands(x_adv: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return (trained(x_adv).argmax(1) == batch.y) & (trained(batch.x).argmax(1) == batch.y)

    torch.manual_seed(0)
    autoattack = withstands(AutoAttack(threat=threat, steps=20, n_queries=100).perturb(trained, batch))
    apgd = withstands(torchattacks.APGD(trained, eps=0.06, steps=20, loss="ce")(batch.x, batch.y))
    pgd = withstands(PGD(threat=threat, steps=20, keep="worst").perturb(trained, batch))
    assert autoattack.sum() <= min(apgd.sum(), pgd.sum())


def test_autoattack_rejects_too_few_classes(batch: Batch) -> None:
    net = CNN(shape=(1, 8, 8), classes=3, mean=[0.3], std=[0.4], width=2, hidden=4)
    with pytest.raises(ValueError, match="at least 4 classes"):
        AutoAttack(threat=Linf(eps=0.1)).perturb(net, batch)


def test_autoattack_with_five_classes() -> None:
    net = CNN(shape=(1, 8, 8), classes=5, mean=[0.3], std=[0.4], width=2, hidden=4)
    batch = Batch.of(torch.rand(6, 1, 8, 8), torch.arange(6) % 5)
    assert AutoAttack(threat=Linf(eps=0.1), steps=3, n_queries=5).perturb(net, batch).shape == batch.x.shape
