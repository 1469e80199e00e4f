"""How a rare class is found, checked against scikit-learn."""

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


def test_the_numbers_are_those_of_scikit_learn() -> None:
    net, attacks, loader, found = outcomes()
    metrics = detection(found)
    y = found.y.numpy()
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
    assert metrics["worst_case_matthews"] == pytest.approx(matthews_corrcoef(y, np.where(found.worst_case, y, 1 - y)), abs=1e-6)


def test_a_sure_network_is_ranked_by_its_odds() -> None:
    """Its probabilities round to 0 and 1."""
    found = outcomes()[3]
    sure = found._replace(odds={name: odds * 1000 for name, odds in found.odds.items()})
    assert detection(sure) == detection(found)


def test_a_cascade_has_the_odds_of_what_it_broke() -> None:
    net, attacks, loader, _ = outcomes()
    found = attack_all(net, {"both": Cascade(attacks=attacks)}, loader, seed=0)
    moved = found.odds["both"] != found.odds["clean"]
    assert torch.equal(moved, found.clean & ~found.robust["both"])
    assert torch.equal((found.odds["both"] > 0).long(), found.predicted["both"])


def test_more_classes_have_none() -> None:
    assert detection(outcomes(3)[3]) == {}
