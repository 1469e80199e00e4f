"""The final evaluation of a trained network: the only place that touches the test set."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from omegaconf import DictConfig
from torch import Tensor

from temper.attacks import Attack, Threat
from temper.config.errors import ConfigError
from temper.config.instantiate import build
from temper.data import DataModule
from temper.data.sources import Spelling, Telling
from temper.evaluation.audit import Audit
from temper.evaluation.corruptions import Corruptions
from temper.evaluation.detection import detection
from temper.evaluation.eps_curve import Curve, curve_metrics
from temper.evaluation.ledger import Ledger
from temper.evaluation.metrics import accuracies, gaps, sensitivities, share, weight_statistics
from temper.evaluation.minimal_norm import MinimalNorm
from temper.evaluation.outcomes import Outcomes, attack_all
from temper.models import Network

EXAMPLES = 8  # whose points are kept, to be looked at


class Suite(NamedTuple):
    """Named attacks, independent of the training attack, and other views of the same network; None: left out.

    Attributes:
        attacks: every one runs on every point of the test set.
        threat: the set that they stay in.
        gap_attack: measures the robust generalization gap and the sensitivity; the validation attack of training.
        batch_size: of the evaluation.
        audit: whether the robust accuracies can be believed.
        minimal_norm: distances to the decision boundary.
        curve: robust accuracy over a ladder of radii.
        corruptions: accuracy under distribution shift.
    """

    attacks: Mapping[str, Attack]
    threat: Threat
    gap_attack: Attack
    batch_size: int
    audit: Audit | None = None
    minimal_norm: MinimalNorm | None = None
    curve: Curve | None = None
    corruptions: Corruptions | None = None

    @classmethod
    def of(cls, config: DictConfig) -> "Suite":
        if not config.evaluation.attacks:
            raise ConfigError("evaluation.attacks: a suite needs at least one attack")
        views = ("audit", "minimal_norm", "curve", "corruptions")
        return cls(
            attacks={str(name): build(config, f"evaluation.attacks.{name}") for name in config.evaluation.attacks},
            threat=build(config, "evaluation.threat"),
            gap_attack=build(config, "validation", without=("name",)),
            batch_size=config.evaluation.batch_size,
            **{view: build(config, f"evaluation.{view}") for view in views if config.evaluation.get(view)},
        )

    @property
    def versions(self) -> dict[str, str]:
        """Of the attacks that exist in several."""
        return {name: attack.version for name, attack in self.attacks.items() if attack.version}


class Evaluation(NamedTuple):
    """What a suite says of one checkpoint.

    Attributes:
        arrays: by name, what happened to every example.
        metrics: by its name in tables (`test/pgd`, `gap/robust`, …).
        audit: by check, `temper.evaluation.audit.Finding` as plain values.
    """

    arrays: dict[str, np.ndarray]
    metrics: dict[str, float]
    audit: dict[str, dict[str, Any]]


def evaluate(
    net: Network,
    suite: Suite,
    data: DataModule,
    *,
    seed: int,
    device: str = "cpu",
    attacked: bool = True,
    ledger: Ledger | None = None,
) -> Evaluation:
    """Evaluate a network on the test set.

    Args:
        attacked: whether it was trained against an attack.
        ledger: keeps what is finished; None: nothing is kept.
    """
    ledger = Ledger() if ledger is None else ledger
    net = net.to(device)
    test = data.loader("test", batch_size=suite.batch_size, device=device)
    # As many training examples as there are test examples, in a fixed order: enough for a gap, at the cost of no more.
    train = data.loader("train", batch_size=suite.batch_size, device=device, size=len(test.y))
    for attack in suite.attacks.values():
        attack.meet(data.encoder)
    outcomes = attack_all(net, suite.attacks, test, seed=seed, keep=EXAMPLES, ledger=ledger)
    before, after = (accuracies(attack_all(net, {"gap": suite.gap_attack}, split, seed=seed)) for split in (train, test))
    measured = {
        "test": accuracies(outcomes) | sensitivities(net, suite.gap_attack, suite.threat, test, seed=seed),
        "detection": detection(outcomes),
        "gap": gaps(before, after, "gap"),
        "weights": weight_statistics(net, data.shape),
    }
    metrics = {f"{group}/{name}": value for group, values in measured.items() for name, value in values.items()}
    arrays: dict[str, Tensor] = {}
    findings = {}
    if suite.audit is not None:
        standing = outcomes.worst_case
        findings = suite.audit.findings(net, test, attacked=attacked, seed=seed, standing=standing, ledger=ledger)
    if suite.minimal_norm is not None:
        distance = suite.minimal_norm.distances(net, test, seed=seed, ledger=ledger)
        arrays["minimal_norm"] = distance
        metrics["test/minimal_norm"] = float(distance.median())
        if suite.audit is not None:
            beaten = outcomes.worst_case & (distance <= suite.threat.eps)
            findings["minimal_norm"] = suite.audit.judge("minimal_norm", share(beaten))
    if suite.curve is not None:
        withstood = suite.curve.outcomes(net, test, seed=seed, ledger=ledger)
        arrays |= {f"curve/{factor}": right for factor, right in withstood.items()}
        metrics |= curve_metrics(withstood)
    if suite.corruptions is not None:
        survived = suite.corruptions.outcomes(net, test, seed=seed, ledger=ledger)
        arrays |= {f"corruptions/{name}": right for name, right in survived.items()}
        metrics |= suite.corruptions.metrics(survived)
    return Evaluation(
        arrays=outcomes.arrays() | {name: value.numpy() for name, value in arrays.items()} | _readable(outcomes, data),
        metrics=metrics,
        audit={name: asdict(finding) for name, finding in findings.items()},
    )


def _readable(outcomes: Outcomes, data: DataModule) -> dict[str, np.ndarray]:
    """The kept examples as they can be read, and what attacks made of them.

    Of texts, and of attacks on their words: (K,) strings, `texts/clean` and so on. Of tables, whose C columns are named by
    `columns`: (K, C) strings, `rows/clean` and so on, and by attack how far each column moved, `moved/pgd` and so on.
    """
    points, encoder = outcomes.points, data.encoder
    if isinstance(encoder, Spelling):
        tokens = {name: changed for name, changed in points.items() if not changed.is_floating_point()}
        return {f"texts/{name}": np.array(encoder.read(changed)) for name, changed in tokens.items()}
    if not isinstance(encoder, Telling) or not points:
        return {}
    rows = {f"rows/{name}": np.array(encoder.tell(changed)) for name, changed in points.items()}
    moved = {f"moved/{name}": encoder.moved(points["clean"], changed).numpy() for name, changed in points.items()}
    return {"columns": np.array(encoder.columns)} | rows | moved
