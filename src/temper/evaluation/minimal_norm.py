"""The other view of robustness: how far an example is from the decision boundary."""

import foolbox
import torch
from torch import Tensor

from temper.arguments import Count, checked
from temper.attacks import Threat, probing
from temper.data import Loader
from temper.evaluation.ledger import Ledger
from temper.models import Network
from temper.randomness import rekey

ATTACKS: dict[str, type] = {
    "linf": foolbox.attacks.LInfFMNAttack,
    "l2": foolbox.attacks.L2FMNAttack,
    "l1": foolbox.attacks.L1FMNAttack,
}


class MinimalNorm:
    """The smallest perturbation that was found to flip each example, by the fast minimum-norm attack of Pintor et al. 2021
    (https://arxiv.org/abs/2102.12827) as foolbox has it (Rauber et al. 2020).

    It needs no radius, so that a distribution stands where robust accuracy gives one point of it.

    Args:
        threat: its norm and valid range; eps is not used.
        steps: of the attack.
    """

    @checked
    def __init__(self, *, threat: Threat, steps: Count = 100) -> None:
        if threat.norm not in ATTACKS:
            raise ValueError(f"threat: there is no minimal-norm attack for {threat.norm}")
        self.threat, self.steps = threat, steps

    def distances(self, net: Network, loader: Loader, *, seed: int, ledger: Ledger | None = None) -> Tensor:
        """By example, (N,), in the threat's norm: 0 where it is misclassified as it is, infinite where nothing was found.

        Raises:
            ValueError: some features may not change, which the attack cannot respect.
        """
        if loader.mask is not None:
            raise ValueError("minimal_norm cannot leave features alone; set it to null for this data")
        ledger = Ledger() if ledger is None else ledger
        attack = ATTACKS[self.threat.norm](steps=self.steps)
        distances = []
        for number, batch in enumerate(ledger.follow(loader, len(loader), "minimal norm")):

            def compute(batch=batch, number=number) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
                rekey(seed, "minimal_norm", number)
                with probing(net, "eval"):
                    bounds = (self.threat.lower, self.threat.upper)
                    model = foolbox.PyTorchModel(net, bounds=bounds, device=batch.x.device)
                    z = net.lift(batch.x).detach()
                    wrong = net(z).argmax(1) != batch.y
                    x_adv, _, found = attack(model, z.clone(), batch.y, epsilons=None)
                    length = self.threat.length(x_adv.detach() - z).masked_fill(~found, torch.inf)
                return {"distance": length.masked_fill(wrong, 0)}

            distances.append(ledger.piece(f"minimal_norm-{number}", compute)["distance"])
        return torch.cat(distances)
