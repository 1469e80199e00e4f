"""Robust accuracy over a ladder of radii."""

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
    """What a single radius cannot show: where accuracy begins to fall, and how far it reaches.

    Each radius is attacked by APGD on cross-entropy and margin, on the examples that the smaller ones left standing: what falls
    in a small set falls in every larger one.

    Args:
        threat: the norm, and the radius that the factors multiply.
        factors: of the threat's eps, ascending; a radius that would cover the whole range is left out.
        steps: of each APGD.
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
            raise ValueError(f"factors: should ascend, and {list(factors)} do not")
        widest = threat.upper - threat.lower if threat.norm == "linf" else torch.inf
        self.factors = [factor for factor in factors if factor * threat.eps <= widest]
        if not self.factors:
            raise ValueError(f"factors: every radius among {list(factors)} times eps covers the whole valid range")
        self.threats = [replace(threat, eps=factor * threat.eps) for factor in self.factors]
        self.steps = steps

    def outcomes(self, net: Network, loader: Loader, *, seed: int, ledger: Ledger | None = None) -> dict[str, Tensor]:
        """By factor ("0.5"), whether an example withstands that radius and all smaller ones, (N,) bool; "0" is clean."""
        attacks = {
            f"{factor:g}": Cascade(
                attacks={
                    "ce": APGD(threat=threat, loss="ce", steps=self.steps),
                    "margin": APGD(threat=threat, loss="margin", steps=self.steps),
                }
            )
            for factor, threat in zip(self.factors, self.threats, strict=True)
        }
        standing = attack_all(net, {}, loader, seed=seed).clean
        found = {"0": standing}
        for factor, cascade in attacks.items():
            left = standing.nonzero().squeeze(1)
            if len(left):
                part = attack_all(net, {f"curve {factor}": cascade}, loader.only(left), seed=seed, ledger=ledger)
                standing = standing.clone()
                standing[left] = part.worst_case
            found[factor] = standing
        return found


def curve_metrics(outcomes: dict[str, Tensor]) -> dict[str, float]:
    """Accuracy by factor, and the area under the curve as a share of what perfect accuracy would have (trapezoids)."""
    factors = torch.tensor([float(name) for name in outcomes], dtype=torch.float64)
    accuracy = torch.stack([right.double().mean() for right in outcomes.values()])
    metrics = {f"curve/{name}": float(value) for name, value in zip(outcomes, accuracy, strict=True)}
    return metrics | {"curve/area": float(torch.trapezoid(accuracy, factors) / (factors[-1] - factors[0]))}
