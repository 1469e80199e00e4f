"""Several attacks one after another, each on the examples that still stand."""

from collections.abc import Mapping

import torch
from torch import Tensor

from temper.arguments import Count, checked
from temper.attacks.apgd import APGD
from temper.attacks.ascent import where_example
from temper.attacks.attack import Attack
from temper.attacks.probing import probing
from temper.attacks.threat import Threat
from temper.attacks.torchattack import TorchAttack
from temper.data.batch import Batch
from temper.models.network import Network


class Cascade(Attack):
    """A worst case for less: what an earlier attack broke, later ones leave alone. An evaluation regroups the examples that
    still stand into full batches between its attacks.

    It gives the worst case alone. For an accuracy of each attack, list them apart in the suite.

    Args:
        attacks: by name, in their order.
    """

    @checked
    def __init__(self, *, attacks: Mapping[str, Attack]) -> None:
        super().__init__()
        if not attacks:
            raise ValueError("attacks: name at least one")
        self.attacks = dict(attacks)
        self.steps = max(getattr(attack, "steps", 0) for attack in attacks.values())

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        x_adv = net.lift(batch.x).detach().clone()
        standing = torch.arange(len(batch), device=x_adv.device)
        for attack in self.attacks.values():
            part = batch.select(standing)
            with probing(net, "eval"), torch.no_grad():
                found = attack.perturb(net, part)
                fooled = net(found).argmax(1) != part.y
            x_adv[standing] = where_example(fooled, found, x_adv[standing])
            standing = standing[~fooled]
            if len(standing) == 0:
                break
        return x_adv


class AutoAttack(Cascade):
    """The standard AutoAttack of Croce & Hein 2020 (https://arxiv.org/abs/2003.01690): APGD-CE, targeted APGD and FAB on
    9 targets, Square with 5,000 queries.

    APGD is ours, the rest are torchattacks' parts with the settings of the authors' code: torchattacks' own class of that name
    runs 10 steps instead of 100.

    Args:
        threat: linf or l2, inputs in [0, 1].
        steps: of APGD and FAB.
        n_queries: of Square.
    """

    version = "standard: apgd-ce, apgd-t (9 targets), fab-t (9 targets), square; 100 steps, 5,000 queries unless set otherwise"

    @checked
    def __init__(self, *, threat: Threat, steps: Count = 100, n_queries: Count = 5000) -> None:
        if threat.norm not in ("linf", "l2") or (threat.lower, threat.upper) != (0, 1):
            raise ValueError(
                "threat: AutoAttack is defined for linf and l2 on inputs in [0, 1]; the attacks of evaluation=standard take any"
            )
        fab = {"steps": steps, "multi_targeted": True, "n_classes": 10}
        square = {"n_queries": n_queries, "resc_schedule": False}
        super().__init__(
            attacks={
                "apgd_ce": APGD(threat=threat, loss="ce", steps=steps),
                "apgd_t": APGD(threat=threat, loss="targeted", steps=steps, restarts=9),
                "fab_t": TorchAttack(threat=threat, attack="FAB", options=fab),
                "square": TorchAttack(threat=threat, attack="Square", options=square),
            }
        )
        self.threat = threat
