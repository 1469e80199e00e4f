"""Final evaluation of a trained network, the only code that uses the test set."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from temper.attacks import Attack, Threat
from temper.config.errors import ConfigError
from temper.config.run_config import EvaluationConfig
from temper.data import DataModule
from temper.data.sources import Spelling, Telling
from temper.evaluation.audit import Audit
from temper.evaluation.corruptions import Corruptions
from temper.evaluation.detection import detection
from temper.evaluation.eps_curve import Curve, curve_metrics
from temper.evaluation.ledger import Ledger
from temper.evaluation.metrics import accuracies, fraction, gaps, sensitivities, weight_statistics
from temper.evaluation.minimal_norm import MinimalNorm
from temper.evaluation.outcomes import Outcomes, attack_all
from temper.models import Network

KEPT_EXAMPLES = 8  # examples whose inputs are stored for inspection


class Suite(NamedTuple):
    """Named attacks, independent of the training attack, and optional further evaluations (None: left out).

    Attributes:
        attacks: by name; each runs on every example of the test set.
        threat: perturbation set of the attacks.
        gap_attack: the validation attack of training; it measures the robust generalization gap and the sensitivity.
        batch_size: of the evaluation.
        audit: checks whether the robust accuracies can be trusted.
        minimal_norm: distances to the decision boundary.
        curve: robust accuracy over a grid of radii.
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
    def of(cls, run: EvaluationConfig) -> "Suite":
        """Build the suite of a run.

        Args:
            run: the run.

        Raises:
            ConfigError: the suite has no attack, or a part of it cannot be built.
        """
        config = run.evaluation
        if not config.attacks:
            raise ConfigError(
                "evaluation.attacks={}: a suite needs at least one attack. Choose a suite such as evaluation=standard."
            )
        views = {name: getattr(config, name) for name in ("audit", "minimal_norm", "curve", "corruptions")}
        return cls(
            attacks={name: attack.build() for name, attack in config.attacks.items()},
            threat=config.threat.build(),
            gap_attack=run.validation.build(),
            batch_size=config.batch_size,
            **{name: view.build() for name, view in views.items() if view is not None},
        )

    @property
    def versions(self) -> dict[str, str]:
        """Versions by name, for the attacks that have several."""
        return {name: attack.version for name, attack in self.attacks.items() if attack.version}


class Evaluation(NamedTuple):
    """Results of a suite on one checkpoint.

    Attributes:
        arrays: per-example outcomes by name.
        metrics: by name (`test/pgd`, `gap/robust`, …).
        audit: by check, the fields of a `temper.evaluation.audit.Finding`.
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
        net: the network; moved to the device.
        suite: what to evaluate.
        data: its test split, and a part of its training split for the generalization gap.
        seed: of the run.
        device: where to evaluate.
        attacked: True if the network was trained adversarially.
        ledger: stores finished batches; None stores nothing.
    """
    ledger = Ledger() if ledger is None else ledger
    net = net.to(device)
    test = data.loader("test", batch_size=suite.batch_size, device=device)
    # As many training examples as test examples, in a fixed order: enough for a gap, at the same cost.
    train = data.loader("train", batch_size=suite.batch_size, device=device, size=len(test.y))
    for attack in suite.attacks.values():
        attack.set_encoder(data.encoder)
    outcomes = attack_all(net, suite.attacks, test, seed=seed, keep=KEPT_EXAMPLES, ledger=ledger)
    on_train, on_test = (accuracies(attack_all(net, {"gap": suite.gap_attack}, split, seed=seed)) for split in (train, test))
    measured = {
        "test": accuracies(outcomes) | sensitivities(net, suite.gap_attack, suite.threat, test, seed=seed),
        "detection": detection(outcomes),
        "gap": gaps(on_train, on_test, "gap"),
        "weights": weight_statistics(net, data.shape),
    }
    metrics = {f"{group}/{name}": value for group, values in measured.items() for name, value in values.items()}
    arrays: dict[str, Tensor] = {}
    findings = {}
    if suite.audit is not None:
        findings = suite.audit.findings(net, test, attacked=attacked, seed=seed, worst_case=outcomes.worst_case, ledger=ledger)
    if suite.minimal_norm is not None:
        distance = suite.minimal_norm.distances(net, test, seed=seed, ledger=ledger)
        arrays["minimal_norm"] = distance
        metrics["test/minimal_norm"] = float(distance.median())
        if suite.audit is not None:
            broken = outcomes.worst_case & (distance <= suite.threat.eps)
            findings["minimal_norm"] = suite.audit.judge("minimal_norm", fraction(broken))
    if suite.curve is not None:
        robust = suite.curve.outcomes(net, test, seed=seed, ledger=ledger)
        arrays |= {f"curve/{factor}": correct for factor, correct in robust.items()}
        metrics |= curve_metrics(robust)
    if suite.corruptions is not None:
        corrupted = suite.corruptions.outcomes(net, test, seed=seed, ledger=ledger)
        arrays |= {f"corruptions/{name}": correct for name, correct in corrupted.items()}
        metrics |= suite.corruptions.metrics(corrupted)
    return Evaluation(
        arrays=outcomes.arrays() | {name: value.numpy() for name, value in arrays.items()} | _readable(outcomes, data),
        metrics=metrics,
        audit={name: asdict(finding) for name, finding in findings.items()},
    )


def _readable(outcomes: Outcomes, data: DataModule) -> dict[str, np.ndarray]:
    """Return the kept examples of texts and tables in readable form, before and after each attack.

    Args:
        outcomes: with K kept examples.
        data: its encoder decodes the inputs.

    Returns:
        For texts, and attacks that substitute words: (K,) strings, `texts/clean`, `texts/<attack>`. For tables of C columns:
        `columns`, (C,) names; (K, C) strings, `rows/clean`, `rows/<attack>`; and the change of each column by attack,
        `moved/<attack>`. Empty for other data.
    """
    points, encoder = outcomes.points, data.encoder
    if isinstance(encoder, Spelling):
        tokens = {name: changed for name, changed in points.items() if not changed.is_floating_point()}
        return {f"texts/{name}": np.array(encoder.decode(changed)) for name, changed in tokens.items()}
    if not isinstance(encoder, Telling) or not points:
        return {}
    rows = {f"rows/{name}": np.array(encoder.decode(changed)) for name, changed in points.items()}
    moved = {f"moved/{name}": encoder.column_changes(points["clean"], changed).numpy() for name, changed in points.items()}
    return {"columns": np.array(encoder.columns)} | rows | moved
