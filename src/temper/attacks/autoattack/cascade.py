"""Cascade of attacks, each on the examples not yet fooled, and AutoAttack."""

from collections.abc import Mapping

import torch
from torch import Tensor

from temper.attacks.ascent import where_example
from temper.attacks.attack import Attack
from temper.attacks.autoattack.apgd import APGD
from temper.attacks.autoattack.batch_filling import Filling
from temper.attacks.autoattack.fab import FAB
from temper.attacks.autoattack.square import Square
from temper.attacks.network_state import probing
from temper.attacks.threat import Threat
from temper.config.types import Count, checked
from temper.data.batch import Batch
from temper.data.sources import Encoder
from temper.models.network import Network


class Cascade(Attack):
    """Worst case over several attacks at lower cost: each attack runs only on the examples that earlier ones did not fool.

    Between the attacks, an evaluation regroups the remaining examples into full batches, those of highest loss first. The
    cascade gives only the worst case. For the accuracy under each attack, list the attacks separately in the suite.

    Args:
        attacks: the attacks by name, in order.

    Raises:
        ValueError: There is no attack.
    """

    @checked
    def __init__(self, *, attacks: Mapping[str, Attack]) -> None:
        super().__init__()
        if not attacks:
            raise ValueError("attacks: no attack is given. Name at least one.")
        self.attacks = dict(attacks)
        self.steps = max(getattr(attack, "steps", 0) for attack in attacks.values())

    def set_encoder(self, encoder: Encoder | None) -> None:
        for attack in self.attacks.values():
            attack.set_encoder(encoder)

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        x_adv = net.lift(batch.x).detach().clone()
        remaining = torch.arange(len(batch), device=x_adv.device)
        for attack in self.attacks.values():
            part = batch.select(remaining)
            with probing(net, "eval"), torch.no_grad():
                points = attack.perturb(net, part, len(batch)) if isinstance(attack, Filling) else attack.perturb(net, part)
                points = net.lift(points)  # an attack that edits the inputs themselves returns inputs
                fooled = net(points).argmax(1) != part.y
            x_adv[remaining] = where_example(fooled, points, x_adv[remaining])
            remaining = remaining[~fooled]
            if len(remaining) == 0:
                break
        return x_adv


class AutoAttack(Cascade):
    """Standard AutoAttack (Croce & Hein 2020, https://arxiv.org/abs/2003.01690): APGD-CE, targeted APGD, FAB and Square.

    APGD and FAB have 9 targets, Square 5,000 queries. All parts are implemented here, with the settings of the authors' code.
    Further targets and queries of the remaining examples use the rows of fooled ones, so the last examples take far fewer
    forward passes.

    Args:
        threat: linf or l2, for inputs in [0, 1].
        steps: steps of APGD and FAB.
        n_queries: queries of Square.

    Raises:
        ValueError: AutoAttack is not defined for the threat.
    """

    version = (
        "standard: apgd-ce, apgd-t (9 targets), fab-t (9 targets), square, all implemented in Temper; "
        "100 steps, 5,000 queries unless set otherwise"
    )

    @checked
    def __init__(self, *, threat: Threat, steps: Count = 100, n_queries: Count = 5000) -> None:
        if threat.norm not in ("linf", "l2") or (threat.lower, threat.upper) != (0, 1):
            raise ValueError(
                "threat: AutoAttack is defined for linf and l2 on inputs in [0, 1]. Use evaluation=standard, whose attacks "
                "take any threat."
            )
        super().__init__(
            attacks={
                "apgd_ce": APGD(threat=threat, loss="ce", steps=steps),
                "apgd_t": APGD(threat=threat, loss="targeted", steps=steps, restarts=9),
                "fab_t": FAB(threat=threat, steps=steps, targets=9),
                "square": Square(threat=threat, queries=n_queries),
            }
        )
        self.threat = threat
