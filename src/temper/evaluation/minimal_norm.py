"""Distance of each example to the decision boundary, by minimal-norm attacks."""

import os

import torch
from torch import Tensor, nn

from temper.attacks import Threat, probing
from temper.config.types import Count, checked
from temper.data import Loader
from temper.evaluation.ledger import Ledger
from temper.models import Network
from temper.runs.seeding import rekey

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # foolbox imports GitPython, which fails where git is not installed
import foolbox

ATTACKS: dict[str, type] = {
    "linf": foolbox.attacks.LInfFMNAttack,
    "l2": foolbox.attacks.DDNAttack,  # foolbox's L2FMNAttack never projects: on a plane its distances are 15 times too large
    "l1": foolbox.attacks.L1FMNAttack,
}


class MinimalNorm:
    """Smallest perturbation found that changes each example's prediction.

    It is found by the fast minimum-norm attack of Pintor et al. 2021 (https://arxiv.org/abs/2102.12827), or under l2 by DDN of
    Rony et al. 2019 (https://arxiv.org/abs/1811.09600), both as implemented by foolbox (Rauber et al. 2020). No radius is
    needed: the result is a distribution of distances, of which robust accuracy at one radius is a single point.

    Args:
        threat: its norm and valid range are used; its eps is not.
        steps: of the attack.

    Raises:
        ValueError: no minimal-norm attack exists for the norm of the threat.
    """

    @checked
    def __init__(self, *, threat: Threat, steps: Count = 100) -> None:
        if threat.norm not in ATTACKS:
            raise ValueError(f"threat: no minimal-norm attack exists for norm {threat.norm}. Use one of {', '.join(ATTACKS)}.")
        self.threat, self.steps = threat, steps

    def distances(self, net: Network, loader: Loader, *, seed: int, ledger: Ledger | None = None) -> Tensor:
        """Compute the distance of each example in the norm of the threat.

        Args:
            net: the network, on the loader's device.
            loader: of a split.
            seed: of the run.
            ledger: stores finished batches; None stores nothing.

        Returns:
            Distances, (N,): 0 where the clean example is misclassified, infinite where the attack found no perturbation.

        Raises:
            ValueError: the data has immutable features, which the attack cannot respect.
        """
        if loader.mask is not None:
            raise ValueError("minimal_norm: its attacks cannot respect immutable features. Set it to null for this data.")
        ledger = Ledger() if ledger is None else ledger
        attack = ATTACKS[self.threat.norm](steps=self.steps)
        distances = []
        for number, batch in enumerate(ledger.track(loader, len(loader), "minimal norm")):

            def compute(batch=batch, number=number) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
                rekey(seed, "minimal_norm", number)
                with probing(net, "eval"):
                    # The step sizes of the attacks are made for inputs in [0, 1].
                    rescaled = _Rescaled(net, self.threat)
                    model = foolbox.PyTorchModel(rescaled.eval(), bounds=(0, 1), device=batch.x.device)
                    u = (net.lift(batch.x).detach() - self.threat.lower) / rescaled.width
                    wrong = rescaled(u).argmax(1) != batch.y
                    u_adv, _, success = attack(model, u, batch.y, epsilons=None)
                    length = rescaled.width * self.threat.length(u_adv.detach() - u).masked_fill(~success, torch.inf)
                return {"distance": length.masked_fill(wrong, 0)}

            distances.append(ledger.load_or_compute(f"minimal_norm-{number}", compute)["distance"])
        return torch.cat(distances)


class _Rescaled(nn.Module):
    """A network that takes inputs rescaled to [0, 1]."""

    def __init__(self, net: Network, threat: Threat) -> None:
        super().__init__()
        self.net, self.lower, self.width = net, threat.lower, threat.upper - threat.lower

    def forward(self, u: Tensor) -> Tensor:
        logits: Tensor = self.net(self.lower + self.width * u)
        return logits
