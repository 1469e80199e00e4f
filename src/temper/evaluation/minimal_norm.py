"""The other view of robustness: how far an example is from the decision boundary."""

import os

import torch
from torch import Tensor, nn

from temper.attacks import Threat, probing
from temper.config.types import Count, checked
from temper.data import Loader
from temper.evaluation.ledger import Ledger
from temper.models import Network
from temper.runs.seeding import rekey

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # foolbox imports GitPython, which fails where there is no git
import foolbox

ATTACKS: dict[str, type] = {
    "linf": foolbox.attacks.LInfFMNAttack,
    "l2": foolbox.attacks.DDNAttack,  # foolbox's L2FMNAttack never projects: on a plane it is 15 times too far out
    "l1": foolbox.attacks.L1FMNAttack,
}


class MinimalNorm:
    """The smallest perturbation that was found to flip each example: by the fast minimum-norm attack of Pintor et al. 2021
    (https://arxiv.org/abs/2102.12827), under l2 by DDN of Rony et al. 2019 (https://arxiv.org/abs/1811.09600), both as foolbox
    has them (Rauber et al. 2020).

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
                    # The attacks' step sizes are made for inputs in [0, 1].
                    unit = _Unit(net, self.threat)
                    model = foolbox.PyTorchModel(unit.eval(), bounds=(0, 1), device=batch.x.device)
                    u = (net.lift(batch.x).detach() - self.threat.lower) / unit.width
                    wrong = unit(u).argmax(1) != batch.y
                    u_adv, _, found = attack(model, u, batch.y, epsilons=None)
                    length = unit.width * self.threat.length(u_adv.detach() - u).masked_fill(~found, torch.inf)
                return {"distance": length.masked_fill(wrong, 0)}

            distances.append(ledger.piece(f"minimal_norm-{number}", compute)["distance"])
        return torch.cat(distances)


class _Unit(nn.Module):
    """A network whose inputs have been shifted and scaled to [0, 1]."""

    def __init__(self, net: Network, threat: Threat) -> None:
        super().__init__()
        self.net, self.lower, self.width = net, threat.lower, threat.upper - threat.lower

    def forward(self, u: Tensor) -> Tensor:
        logits: Tensor = self.net(self.lower + self.width * u)
        return logits
