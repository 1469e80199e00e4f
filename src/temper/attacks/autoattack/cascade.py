"""Several attacks one after another, each on the examples that still stand."""

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
    """A worst case for less: what an earlier attack broke, later ones leave alone. An evaluation regroups the examples that
    still stand into full batches between its attacks, the likeliest to fall first.

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

    def meet(self, encoder: Encoder | None) -> None:
        for attack in self.attacks.values():
            attack.meet(encoder)

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        x_adv = net.lift(batch.x).detach().clone()
        standing = torch.arange(len(batch), device=x_adv.device)
        for attack in self.attacks.values():
            part = batch.select(standing)
            with probing(net, "eval"), torch.no_grad():
                found = attack.perturb(net, part, len(batch)) if isinstance(attack, Filling) else attack.perturb(net, part)
                found = net.lift(found)  # of an attack that edits the inputs themselves
                fooled = net(found).argmax(1) != part.y
            x_adv[standing] = where_example(fooled, found, x_adv[standing])
            standing = standing[~fooled]
            if len(standing) == 0:
                break
        return x_adv


class AutoAttack(Cascade):
    """The standard AutoAttack of Croce & Hein 2020 (https://arxiv.org/abs/2003.01690): APGD-CE, targeted APGD and FAB on
    9 targets, Square with 5,000 queries.

    All parts are our own, with the settings of the authors' code. Where examples have fallen, further targets and queries of
    the others take their rows, so that the few that stand in the end cost far fewer passes.

    Args:
        threat: linf or l2, inputs in [0, 1].
        steps: of APGD and FAB.
        n_queries: of Square.
    """

    version = (
        "standard: apgd-ce, apgd-t (9 targets), fab-t (9 targets), square, all of them our own; "
        "100 steps, 5,000 queries unless set otherwise"
    )

    @checked
    def __init__(self, *, threat: Threat, steps: Count = 100, n_queries: Count = 5000) -> None:
        if threat.norm not in ("linf", "l2") or (threat.lower, threat.upper) != (0, 1):
            raise ValueError(
                "threat: AutoAttack is defined for linf and l2 on inputs in [0, 1]; the attacks of evaluation=standard take any"
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
