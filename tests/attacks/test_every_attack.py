"""Properties of every attack, those for training and those of the evaluation suites."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from temper.attacks import (
    APGD,
    L1,
    L2,
    MART,
    NFGSM,
    PGD,
    TRADES,
    VAT,
    Attack,
    Cascade,
    Evolving,
    Free,
    GradAlign,
    Linf,
    Mixed,
    MultiNorm,
    Noise,
    Square,
    Threat,
    TorchAttack,
)
from temper.data import Batch
from temper.models import CNN, Network
from tests.conftest import Linear, small_net

THREATS: dict[str, Threat] = {"linf": Linf(eps=0.1), "l2": L2(eps=0.3), "l1": L1(eps=0.8)}
FACTORIES: dict[str, Callable[[Threat], Attack]] = {
    "pgd": lambda t: PGD(threat=t, steps=3),
    "pgd margin": lambda t: PGD(threat=t, steps=3, loss="margin", keep="worst", restarts=2),
    "pgd dlr": lambda t: PGD(threat=t, steps=3, loss="dlr"),
    "trades": lambda t: TRADES(threat=t, steps=3),
    "mart": lambda t: MART(threat=t, steps=3),
    "mixed": lambda t: Mixed(threat=t, steps=3, pairing=0.5),
    "grad_align": lambda t: GradAlign(threat=t),
    "n_fgsm": lambda t: NFGSM(threat=t),
    "free": lambda t: Free(threat=t),
    "vat": lambda t: VAT(threat=t),
    "noise": lambda t: Noise(threat=t),
    "gaussian noise": lambda t: Noise(threat=t, distribution="gaussian"),
    "evolving": lambda t: Evolving(attacks={"fgsm": PGD(threat=t, steps=1), "trades": TRADES(threat=t, steps=2)}),
    "multi_norm max": lambda t: MultiNorm(linf=t, l2=replace(t, eps=t.eps / 2), steps=3),
    "multi_norm msd": lambda t: MultiNorm(linf=t, l2=replace(t, eps=t.eps / 2), steps=3, strategy="msd"),
    "apgd ce": lambda t: APGD(threat=t, steps=12),
    "apgd dlr": lambda t: APGD(threat=t, steps=12, loss="dlr"),
    "apgd targeted": lambda t: APGD(threat=t, steps=12, loss="targeted", restarts=3),
    "square": lambda t: Square(threat=t, queries=60),
    "cascade": lambda t: Cascade(attacks={"pgd": PGD(threat=t, steps=2), "square": Square(threat=t, queries=20)}),
}
LOSS_ASCENT = ("pgd", "pgd margin", "pgd dlr", "trades", "mart", "apgd ce", "apgd dlr")
every_attack = pytest.mark.parametrize("name", list(FACTORIES))
every_norm = pytest.mark.parametrize("norm", list(THREATS))


class Stateful(Network):
    """Network with all state that an attack could disturb: batch norm, dropout, frozen weights and mixed modes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(16, 10)
        self.head.weight.requires_grad_(False)

    def logits(self, z: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(z))
        return out


def state(net: nn.Module) -> list[object]:
    return [
        [module.training for module in net.modules()],
        [parameter.requires_grad for parameter in net.parameters()],
        [None if parameter.grad is None else parameter.grad.tolist() for parameter in net.parameters()],
        [tensor.tolist() for tensor in net.state_dict().values()],
    ]


@every_attack
@every_norm
def test_points_are_inside_the_set_and_change(name: str, norm: str, trained: CNN, batch: Batch) -> None:
    threat = THREATS[norm]
    attack = FACTORIES[name](threat)
    torch.manual_seed(0)
    # Free starts without a perturbation.
    attack.after_backward()
    x_adv = attack.perturb(trained, batch).detach()
    assert x_adv.shape == batch.x.shape and x_adv.dtype == torch.float32
    limit = 3 * threat.eps if name == "n_fgsm" else threat.eps  # it does not project
    assert (threat.length(x_adv.double() - batch.x.double()) <= limit * (1 + (1e-6 if name == "free" else 0))).all()
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    if name not in ("free", "cascade"):  # free starts at x; cascade changes only examples that it fools
        assert (x_adv != batch.x).flatten(1).any(1).float().mean() > 0.5


@every_attack
@pytest.mark.parametrize("training", [True, False])
def test_network_state_is_unchanged(name: str, training: bool, batch: Batch) -> None:
    net = Stateful().train(training)
    net.body[2].train(not training)
    net.head.bias.grad = torch.ones(10)
    before = state(net)
    FACTORIES[name](THREATS["linf"]).perturb(net, batch)
    assert state(net) == before


@every_attack
def test_network_state_is_restored_after_error(name: str, batch: Batch) -> None:
    class Failing(Stateful):
        calls = 0

        def logits(self, z: Tensor) -> Tensor:
            self.calls += 1
            if self.calls > 1:
                raise RuntimeError("out of memory")
            return super().logits(z)

    net = Failing().train()
    before = state(net)
    try:
        FACTORIES[name](THREATS["linf"]).perturb(net, batch)
    except RuntimeError as error:
        assert "out of memory" in str(error)
    assert state(net) == before


@every_attack
def test_soft_labels_single_example_and_three_classes(name: str, batch: Batch) -> None:
    net = CNN(shape=(1, 8, 8), classes=3, mean=[0.3], std=[0.4], width=4, hidden=8).eval()
    if name == "apgd targeted":
        with pytest.raises(ValueError, match="at least 4 classes"):
            FACTORIES[name](THREATS["linf"]).perturb(net, replace(batch, y=batch.y % 3, target=batch.y % 3))
        net = small_net().eval()
    classes = 10 if name == "apgd targeted" else 3
    for count in (8, 1):
        y = batch.y[:count] % classes
        soft = torch.full((count, classes), 0.1 / (classes - 1)).scatter(1, y[:, None], 0.9)
        part = replace(Batch.of(batch.x[:count], y), target=soft)
        attack = FACTORIES[name](THREATS["linf"])
        x_adv = attack.perturb(net, part)
        risk = attack.risk(net, part, x_adv)
        assert risk.shape == (count,) and torch.isfinite(risk).all()


@every_attack
def test_masked_features_never_change(name: str, trained: CNN, batch: Batch) -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    attack = FACTORIES[name](THREATS["linf"])
    for _ in range(2):
        x_adv = attack.perturb(trained, replace(batch, mask=mask))
        attack.risk(trained, batch, x_adv).sum().backward()
        attack.after_backward()
    assert torch.equal(x_adv[..., 4:], batch.x[..., 4:])
    assert not torch.equal(x_adv[..., :4], batch.x[..., :4])


@every_attack
def test_same_seed_gives_same_points(name: str, trained: CNN, batch: Batch) -> None:
    points = []
    for _ in range(2):
        torch.manual_seed(5)
        points.append(FACTORIES[name](THREATS["l2"]).perturb(trained, batch))
    assert torch.equal(*points)


@pytest.mark.parametrize("name", [*LOSS_ASCENT, "square", "vat", "multi_norm max", "multi_norm msd"])
@every_norm
def test_optimum_of_linear_model_is_reached(name: str, norm: str) -> None:
    """Far from the edges of the range, the best attack changes the margin by eps times the dual norm of w."""
    if (name, norm) in (("square", "l2"), ("square", "l1"), ("vat", "l1")):
        return  # random search and l1 power iteration only come close
    torch.manual_seed(0)
    weight = torch.randn(1, 3, 3)
    net, threat = Linear(weight), replace(THREATS[norm], eps=0.1)
    batch = Batch.of(torch.full((6, 1, 3, 3), 0.5), torch.tensor([0, 1] * 3))
    exact: dict[str, Callable[[], Attack]] = {
        "pgd": lambda: PGD(threat=threat, steps=60, step_size="0.3 eps"),
        "pgd margin": lambda: PGD(threat=threat, steps=60, step_size="0.3 eps", loss="margin", keep="worst"),
        "pgd dlr": lambda: PGD(threat=threat, steps=60, step_size="0.3 eps", loss="dlr"),
        "trades": lambda: TRADES(threat=threat, steps=60, step_size="0.3 eps"),
        "mart": lambda: MART(threat=threat, steps=60, step_size="0.3 eps"),
        "apgd ce": lambda: APGD(threat=threat, steps=60),
        "apgd dlr": lambda: APGD(threat=threat, steps=60, loss="dlr"),
        "square": lambda: Square(threat=threat, queries=800),
        "vat": lambda: VAT(threat=threat),
        "multi_norm max": lambda: MultiNorm(linf=threat, l2=replace(threat, eps=0.05), steps=40, start="zero"),
        "multi_norm msd": lambda: MultiNorm(linf=threat, l2=replace(threat, eps=0.05), strategy="msd", steps=40),
    }
    # A misclassified example is finished, so the bias puts the boundary out of reach, on the side of each label.
    moved = []
    for label in (0, 1):
        net.bias.data.fill_((-1.0 if label == 0 else 1.0) * 2 - float(weight.sum()) / 2)
        part = batch.select((batch.y == label).nonzero().squeeze(1))
        x_adv = exact[name]().perturb(net, part)
        moved.append((net(x_adv) - net(part.x))[:, 1] * (1 if label == 0 else -1))
    if name in ("trades", "vat"):  # without labels, both directions are equally good
        moved = [movement.abs() for movement in moved]
    dual = {"linf": weight.abs().sum(), "l2": weight.norm(), "l1": weight.abs().max()}[norm]
    torch.testing.assert_close(torch.cat(moved).detach(), torch.full((6,), float(0.1 * dual)), rtol=2e-2, atol=0)


def test_larger_radius_never_raises_robust_accuracy(trained: CNN, batch: Batch) -> None:
    for norm, threat in THREATS.items():
        for make in (
            lambda t: APGD(threat=t, steps=15),
            lambda t: Square(threat=t, queries=100),
            lambda t: PGD(threat=t, steps=8, loss="margin", keep="worst"),
        ):
            robust = []
            for factor in (0.3, 1.0, 3.0):
                torch.manual_seed(0)
                x_adv = make(replace(threat, eps=factor * threat.eps)).perturb(trained, batch)
                robust.append(int((trained(x_adv).argmax(1) == batch.y).sum()))
            assert robust == sorted(robust, reverse=True), (norm, robust)


def test_torchattacks_leave_network_state_unchanged(batch: Batch) -> None:
    net = Stateful().train()
    before = state(net)
    TorchAttack(threat=Linf(eps=0.1), attack="MIFGSM", options={"steps": 2}).perturb(net, batch)
    assert state(net) == before
