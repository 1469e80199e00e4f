"""PGD: closed forms, agreement with torchattacks, and monotonicity."""

import itertools
from dataclasses import replace

import pytest
import torch
import torchattacks
from pydantic import ValidationError
from torch.nn.functional import cross_entropy

from temper.attacks import L2, PGD, Linf, Threat
from temper.data import Batch, DataModule
from temper.models import CNN
from tests.conftest import Linear


def withstands(net: CNN, attack: PGD, digits: DataModule, seed: int = 0) -> torch.Tensor:
    x, y = digits.split("test")
    batch = Batch.of(x[:200], y[:200])
    torch.manual_seed(seed)
    with torch.no_grad():
        return (net(attack.perturb(net, batch)).argmax(1) == batch.y) & (net(batch.x).argmax(1) == batch.y)


@pytest.mark.parametrize("threat", [Linf(eps=0.1), L2(eps=0.3)])
@pytest.mark.parametrize("start", ["zero", "uniform"])
def test_optimum_of_linear_model_is_reached(threat: Threat, start: str) -> None:
    """Far from the edges of the range, the best attack lowers the margin by eps times the dual norm of w."""
    torch.manual_seed(0)
    weight = torch.randn(1, 3, 3)
    net = Linear(weight)
    batch = Batch.of(torch.full((8, 1, 3, 3), 0.5), torch.tensor([0, 1] * 4))
    x_adv = PGD(threat=threat, steps=40, step_size=threat.eps / 2, start=start).perturb(net, batch)
    sign = torch.where(batch.y == 1, -1.0, 1.0)
    moved = (net(x_adv) - net(batch.x))[:, 1] * sign
    dual = weight.abs().sum() if threat.norm == "linf" else weight.norm()
    torch.testing.assert_close(moved, torch.full((8,), float(threat.eps * dual)), rtol=1e-3, atol=0)


def test_optimum_is_clipped_at_the_edge_of_the_range() -> None:
    net = Linear(torch.ones(1, 2, 2))
    batch = Batch.of(torch.full((1, 1, 2, 2), 0.95), torch.tensor([0]))
    x_adv = PGD(threat=Linf(eps=0.1), steps=5).perturb(net, batch)
    torch.testing.assert_close(x_adv, torch.ones(1, 1, 2, 2))


@pytest.mark.parametrize("threat", [Linf(eps=0.1), L2(eps=0.3)])
def test_fgsm_is_one_step(threat: Threat, trained: CNN, batch: Batch) -> None:
    x_adv = PGD(threat=threat, steps=1, start="zero").perturb(trained, batch)
    x = batch.x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(cross_entropy(trained(x), batch.y, reduction="sum"), x)
    expected = (batch.x + threat.eps * threat.direction(gradient)).clamp(0, 1)
    torch.testing.assert_close(x_adv, expected, atol=1e-6, rtol=0)


def test_fgsm_equals_torchattacks(trained: CNN, batch: Batch) -> None:
    ours = PGD(threat=Linf(eps=0.1), steps=1, start="zero").perturb(trained, batch)
    theirs = torchattacks.FGSM(trained, eps=0.1)(batch.x, batch.y)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_linf_equals_torchattacks(trained: CNN, batch: Batch) -> None:
    ours = PGD(threat=Linf(eps=0.1), steps=10, step_size=0.02, start="zero").perturb(trained, batch)
    theirs = torchattacks.PGD(trained, eps=0.1, alpha=0.02, steps=10, random_start=False)(batch.x, batch.y)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_l2_equals_torchattacks(trained: CNN, batch: Batch) -> None:
    ours = PGD(threat=L2(eps=0.5), steps=10, step_size=0.1, start="zero").perturb(trained, batch)
    theirs = torchattacks.PGDL2(trained, eps=0.5, alpha=0.1, steps=10, random_start=False)(batch.x, batch.y)
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)  # their normalization adds 1e-10 to a norm


def test_more_steps_and_restarts_never_rescue_an_example(trained: CNN, digits: DataModule) -> None:
    attack = {"threat": Linf(eps=0.08), "step_size": 0.02, "keep": "worst"}
    verdicts = [withstands(trained, PGD(**attack, steps=steps), digits) for steps in (1, 5, 20)]  # type: ignore[arg-type]
    verdicts += [withstands(trained, PGD(**attack, steps=20, restarts=n), digits) for n in (2, 4)]  # type: ignore[arg-type]
    for weaker, stronger in itertools.pairwise(verdicts):
        assert not (stronger & ~weaker).any()
    assert verdicts[-1].sum() < verdicts[0].sum()


def test_larger_radius_never_raises_robust_accuracy(trained: CNN, digits: DataModule) -> None:
    accuracies = [withstands(trained, PGD(threat=Linf(eps=eps), steps=20), digits).sum() for eps in (0.02, 0.05, 0.1, 0.2, 0.5)]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[-1] == 0


def test_every_restart_counts(trained: CNN, digits: DataModule) -> None:
    """Guard against keeping only the last restart, a bug that another library once had."""
    weak = {"threat": Linf(eps=0.06), "steps": 1, "step_size": 0.01}
    together = withstands(trained, PGD(**weak, restarts=8), digits)  # type: ignore[arg-type]
    alone = withstands(trained, PGD(**weak, keep="worst"), digits)  # type: ignore[arg-type]
    assert not (together & ~alone).any() and together.sum() < alone.sum()


def test_masked_features_never_change(trained: CNN, batch: Batch) -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    x_adv = PGD(threat=Linf(eps=0.1), steps=3).perturb(trained, replace(batch, mask=mask))
    assert torch.equal(x_adv[..., 4:], batch.x[..., 4:])
    assert not torch.equal(x_adv[..., :4], batch.x[..., :4])


def test_soft_labels_and_single_example(trained: CNN, batch: Batch) -> None:
    soft = replace(batch, target=torch.full((32, 10), 0.1))
    assert PGD(threat=Linf(eps=0.1), steps=2).perturb(trained, soft).shape == batch.x.shape
    one = Batch.of(batch.x[:1], batch.y[:1])
    assert PGD(threat=Linf(eps=0.1), steps=2, restarts=2).perturb(trained, one).shape == (1, 1, 8, 8)


def test_autocast_networks_are_attacked_in_float32(trained: CNN, batch: Batch) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x_adv = PGD(threat=Linf(eps=0.1), steps=3, start="zero").perturb(trained, batch)
    assert x_adv.dtype == torch.float32
    assert ((x_adv - batch.x).abs() > 0).float().mean() > 0.5, "the gradient did not underflow"


def test_eps_overrides_the_threat() -> None:
    assert PGD(threat=Linf(eps=0.1), eps="4/255").threat.eps == 4 / 255


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"start": "middle"}, "start"),
        ({"mode": "both"}, "mode"),
        ({"start": "zero", "restarts": 2}, "restarts"),
        ({"eps": 8}, "did you mean 8/255"),
    ],
)
def test_invalid_arguments_are_rejected(arguments: dict[str, object], message: str) -> None:
    with pytest.raises((ValidationError, ValueError), match=message):
        PGD(threat=Linf(eps=0.1), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("threat", [Linf(eps=0.1), L2(eps=0.4)])
def test_stopping_at_once_gives_verdicts_of_worst_point_at_lower_cost(threat: Threat, trained: CNN, digits: DataModule) -> None:
    rows = 0

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        nonlocal rows
        rows += len(inputs[0])

    cost, verdicts = [], []
    for attack in (PGD(threat=threat, steps=20, keep="worst"), PGD(threat=threat, steps=20, stop_after=0)):
        rows = 0
        with trained.register_forward_pre_hook(count):
            verdicts.append(withstands(trained, attack, digits))
        cost.append(rows)
    assert torch.equal(*verdicts) and 0 < verdicts[0].sum() < len(verdicts[0])
    assert cost[1] < 0.8 * cost[0]


def test_stop_after_only_affects_misclassified_examples(trained: CNN, batch: Batch) -> None:
    points = []
    for stop_after in (None, 7, 2, 0):
        torch.manual_seed(0)
        points.append(PGD(threat=Linf(eps=0.2), steps=7, stop_after=stop_after).perturb(trained, batch))
    torch.testing.assert_close(points[0], points[1], rtol=0, atol=1e-6)
    # Examples that are never misclassified take all steps.
    robust = trained(points[3]).argmax(1) == batch.y
    torch.testing.assert_close(points[0][robust], points[3][robust], rtol=0, atol=1e-6)
    assert 0 < robust.sum() < len(batch)
    moved = [(one - points[0]).flatten(1).norm(dim=1) for one in points]
    assert 0 < moved[2].sum() < moved[3].sum()


def test_stopping_needs_a_single_run() -> None:
    with pytest.raises(ValueError, match="stop_after: only works with a single run"):
        PGD(threat=Linf(eps=0.1), stop_after=0, keep="worst")
    with pytest.raises(ValidationError, match="stop_after"):
        PGD(threat=Linf(eps=0.1), stop_after=-1)
