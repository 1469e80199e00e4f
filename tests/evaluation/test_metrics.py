"""Evaluation metrics against scikit-learn, closed forms and counts."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from temper.attacks import L2, PGD, Linf, NoAttack
from temper.data import DataModule, Loader
from temper.evaluation import attack_all, loss_instability, sensitivity
from temper.evaluation.lipschitz import lipschitz_bound
from temper.evaluation.metrics import accuracies, fraction, weight_statistics
from temper.models import CNN
from tests.conftest import Linear


def test_accuracies_count_examples_not_batches(trained: CNN, digits: DataModule) -> None:
    """A mean over batches would differ where the last batch is short."""
    x, y = digits.split("test")
    metrics = [
        accuracies(
            attack_all(
                trained, {"fgsm": PGD(threat=Linf(eps=0.1), steps=1, start="zero")}, Loader(x, y, batch_size=size), seed=0
            )
        )
        for size in (7, 449, 450)
    ]
    for name, value in metrics[0].items():
        assert metrics[1][name] == pytest.approx(value, abs=1e-6) == pytest.approx(metrics[2][name], abs=1e-6), name
    with torch.no_grad():
        logits = trained(x)
    assert metrics[0]["clean"] == pytest.approx(accuracy_score(y, logits.argmax(1)))
    assert metrics[0]["loss"] == pytest.approx(log_loss(y, logits.double().softmax(1).numpy()), rel=1e-4)


def test_worst_case_is_computed_per_example(trained: CNN, digits: DataModule) -> None:
    x, y = digits.split("test")
    attacks = {"linf": PGD(threat=Linf(eps=0.05), steps=3), "l2": PGD(threat=L2(eps=0.4), steps=3)}
    outcomes = attack_all(trained, attacks, Loader(x, y, batch_size=100), seed=0)
    assert torch.equal(outcomes.worst_case, outcomes.robust["linf"] & outcomes.robust["l2"])
    assert not (outcomes.robust["linf"] & ~outcomes.clean).any(), "a misclassified example is not robust"
    assert outcomes.worst_case.sum() <= min(outcomes.robust["linf"].sum(), outcomes.robust["l2"].sum())


def test_outcomes_of_an_attack_do_not_depend_on_the_other_attacks(trained: CNN, digits: DataModule) -> None:
    x, y = digits.split("test")
    loader = Loader(x[:100], y[:100], batch_size=50)
    both = attack_all(trained, {"a": PGD(threat=Linf(eps=0.05)), "b": PGD(threat=Linf(eps=0.05))}, loader, seed=0)
    single = attack_all(trained, {"b": PGD(threat=Linf(eps=0.05))}, loader, seed=0)
    assert torch.equal(both.adversarial_loss["b"], single.adversarial_loss["b"])
    assert not torch.equal(both.adversarial_loss["a"], both.adversarial_loss["b"]), "attacks have different random starts"


def test_no_attack_gives_clean_accuracy(trained: CNN, digits: DataModule) -> None:
    x, y = digits.split("test")
    metrics = accuracies(attack_all(trained, {"none": NoAttack()}, Loader(x, y, batch_size=100), seed=0))
    assert metrics["none"] == metrics["worst_case"] == metrics["clean"] > 0.9
    assert 0 <= metrics["ece"] < 0.2


def test_sensitivity_of_a_linear_model_is_its_slope() -> None:
    net = Linear(torch.tensor([[[3.0, 4.0]]]))
    x = torch.zeros(2, 1, 1, 2)
    x_adv = x + torch.tensor([[3e-4, 4e-4], [4e-4, -3e-4]]).reshape(2, 1, 1, 2)
    # p = sigmoid(w·x): each probability changes by p(1 - p) |w·d| = |w·d| / 4, so the vector of both by sqrt(2) times that.
    expected = torch.tensor([5 / 4 * 2**0.5, 0.0])
    torch.testing.assert_close(sensitivity(net, x, x_adv), expected, atol=1e-3, rtol=1e-3)
    assert (sensitivity(net, x, x) == 0).all()


def test_weight_statistics() -> None:
    net = Linear(torch.tensor([[[3.0, -4.0, 5e-4, 0.0]]]))
    net.bias.requires_grad_(False)
    assert weight_statistics(net, (1, 1, 4)) == {"norm": pytest.approx(5), "near_zero": 0.5}


def test_weight_statistics_include_the_lipschitz_bound(trained: CNN) -> None:
    assert weight_statistics(trained, (1, 8, 8))["lipschitz"] == lipschitz_bound(trained, (1, 8, 8))


def test_loss_instability() -> None:
    assert loss_instability([9.0] * 6 + [1.0, 1.0]) == 0
    tail = [1.0, 2.0, 3.0, 4.0]
    assert loss_instability([7.0] * 12 + tail) == pytest.approx(np.std(tail, ddof=1) / np.mean(tail))


def test_fraction() -> None:
    assert fraction(torch.tensor([True, False, True, True])) == 0.75
