"""Robust accuracy as a function of the perturbation radius eps."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from temper.attacks import APGD, Cascade, Threat
from temper.config.types import Count, Positive, checked
from temper.data import Loader
from temper.evaluation.ledger import Ledger
from temper.evaluation.outcomes import attack_all
from temper.models import Network


class Curve:
    """Robust accuracy over a grid of radii, which shows where accuracy begins to fall and how far it extends.

    Each radius is attacked by APGD on cross-entropy and on the margin. Only examples that are robust at all smaller radii are
    attacked: an example that is broken within a small radius is broken within every larger one.

    Args:
        threat: the norm, and the radius that the factors multiply.
        factors: multiples of the threat's eps, ascending; radii that exceed the whole valid range are dropped.
        steps: of each APGD.

    Raises:
        ValueError: the factors do not ascend, or every radius exceeds the valid range.
    """

    @checked
    def __init__(
        self,
        *,
        threat: Threat,
        factors: Sequence[Positive] = (0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3),
        steps: Count = 30,
    ) -> None:
        if list(factors) != sorted(set(factors)):
            raise ValueError(f"factors: {list(factors)} should be strictly ascending.")
        widest = threat.upper - threat.lower if threat.norm == "linf" else torch.inf
        self.factors = [factor for factor in factors if factor * threat.eps <= widest]
        if not self.factors:
            raise ValueError(
                f"factors: with {list(factors)}, every radius exceeds the valid range of width {widest:g}. "
                f"Use smaller factors of eps={threat.eps:g}."
            )
        self.threats = [replace(threat, eps=factor * threat.eps) for factor in self.factors]
        self.steps = steps

    def outcomes(self, net: Network, loader: Loader, *, seed: int, ledger: Ledger | None = None) -> dict[str, Tensor]:
        """Attack every radius and return the per-example outcomes.

        Args:
            net: the network, on the loader's device.
            loader: of a split.
            seed: of the run.
            ledger: stores finished batches; None stores nothing.

        Returns:
            By factor ("0.5"), True where an example is robust at this radius and at all smaller ones, (N,) bool; "0" holds
            clean correctness.
        """
        attacks = {
            f"{factor:g}": Cascade(
                attacks={
                    "ce": APGD(threat=threat, loss="ce", steps=self.steps),
                    "margin": APGD(threat=threat, loss="margin", steps=self.steps),
                }
            )
            for factor, threat in zip(self.factors, self.threats, strict=True)
        }
        robust = attack_all(net, {}, loader, seed=seed).clean
        outcomes = {"0": robust}
        for factor, cascade in attacks.items():
            rows = robust.nonzero().squeeze(1)
            if len(rows):
                part = attack_all(net, {f"curve {factor}": cascade}, loader.subset(rows), seed=seed, ledger=ledger)
                robust = robust.clone()
                robust[rows] = part.worst_case
            outcomes[factor] = robust
        return outcomes


def curve_metrics(outcomes: dict[str, Tensor]) -> dict[str, float]:
    """Compute the accuracy at each factor and the normalized area under the curve.

    Args:
        outcomes: as `Curve.outcomes` returns them.

    Returns:
        `curve/<factor>`, and `curve/area` by the trapezoidal rule as a fraction of the area of perfect accuracy.
    """
    factors = torch.tensor([float(name) for name in outcomes], dtype=torch.float64)
    accuracy = torch.stack([correct.double().mean() for correct in outcomes.values()])
    metrics = {f"curve/{name}": float(value) for name, value in zip(outcomes, accuracy, strict=True)}
    return metrics | {"curve/area": float(torch.trapezoid(accuracy, factors) / (factors[-1] - factors[0]))}
