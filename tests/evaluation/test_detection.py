"""Detection metrics of a rare class, against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, matthews_corrcoef, roc_curve

from temper.attacks import PGD, Cascade, Linf
from temper.data import Loader
from temper.evaluation import attack_all
from temper.evaluation.detection import detection
from temper.models import MLP

FREE = {"lower": -10.0, "upper": 10.0}


def outcomes(classes: int = 2):  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    y = (torch.rand(400) < 0.1).long() if classes == 2 else torch.randint(classes, (400,))
    x = torch.randn(400, 4) + 1.2 * y[:, None]
    net = MLP(shape=[4], classes=classes, mean=[0.0], std=[1.0], hidden=[16])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    attacks = {f"pgd{eps}": PGD(threat=Linf(eps=eps, **FREE), steps=5, keep="worst", start="zero") for eps in (0.1, 0.3)}
    return (
        net.eval(),
        attacks,
        Loader(x, y, batch_size=100),
        attack_all(net.eval(), attacks, Loader(x, y, batch_size=100), seed=0),
    )


def test_metrics_equal_scikit_learn() -> None:
    net, attacks, loader, result = outcomes()
    metrics = detection(result)
    y = result.y.numpy()
    points = {"": loader.x}
    points |= {f"{name}_": torch.cat([attack.perturb(net, batch) for batch in loader]) for name, attack in attacks.items()}
    scores = {}
    for prefix, x in points.items():
        with torch.no_grad():
            logits = net(x)
        scores[prefix] = score = (logits[:, 1] - logits[:, 0]).numpy()
        assert metrics[f"{prefix}average_precision"] == pytest.approx(average_precision_score(y, score), abs=1e-5)
        fpr, tpr, _ = roc_curve(y, score)
        assert metrics[f"{prefix}recall"] == pytest.approx(tpr[fpr <= 0.01].max(), abs=1e-6)
    assert metrics["matthews"] == pytest.approx(matthews_corrcoef(y, scores[""] > 0), abs=1e-6)
    assert metrics["average_precision"] > metrics["pgd0.1_average_precision"] > metrics["pgd0.3_average_precision"]
    worst = np.where(y == 1, np.minimum.reduce(list(scores.values())), np.maximum.reduce(list(scores.values())))
    assert metrics["worst_case_average_precision"] == pytest.approx(average_precision_score(y, worst), abs=1e-5)
    assert metrics["worst_case_matthews"] == pytest.approx(
        matthews_corrcoef(y, np.where(result.worst_case, y, 1 - y)), abs=1e-6
    )


def test_examples_of_a_confident_network_are_ranked_by_their_log_odds() -> None:
    """Its probabilities round to 0 and 1, which would give ties."""
    result = outcomes()[3]
    confident = result._replace(odds={name: odds * 1000 for name, odds in result.odds.items()})
    assert detection(confident) == detection(result)


def test_a_cascade_changes_the_log_odds_of_the_examples_that_it_breaks() -> None:
    net, attacks, loader, _ = outcomes()
    result = attack_all(net, {"both": Cascade(attacks=attacks)}, loader, seed=0)
    changed = result.odds["both"] != result.odds["clean"]
    assert torch.equal(changed, result.clean & ~result.robust["both"])
    assert torch.equal((result.odds["both"] > 0).long(), result.predicted["both"])


def test_there_are_no_detection_metrics_for_three_classes() -> None:
    assert detection(outcomes(3)[3]) == {}
