"""What happened to every single example: the ground on which all numbers of an evaluation stand."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from temper.attacks import Attack, probing
from temper.data import Loader
from temper.models import Network
from temper.randomness import rekey


class Outcomes(NamedTuple):
    """N examples under A attacks, on the CPU.

    Attributes:
        y: labels, (N,).
        probabilities: softmax of the clean logits, (N, C).
        loss: clean cross-entropy, (N,).
        robust: by attack, whether an example is classified rightly before and after it, (N,) bool. (x itself is in the
            threat set: what is wrong without an attack is no success of the defense.)
        adversarial_loss: by attack, cross-entropy at the point that it returned, (N,); attacks of torchattacks that end early
            return x itself where they fail.
    """

    y: Tensor
    probabilities: Tensor
    loss: Tensor
    robust: dict[str, Tensor]
    adversarial_loss: dict[str, Tensor]

    @property
    def clean(self) -> Tensor:
        """Whether an example is classified rightly, (N,) bool."""
        return self.probabilities.argmax(1) == self.y

    @property
    def worst_case(self) -> Tensor:
        """Whether an example withstands every attack, (N,) bool."""
        return torch.stack([self.clean, *self.robust.values()]).all(0)

    def arrays(self) -> dict[str, np.ndarray]:
        """For `outcomes.npz`: y, clean and, by attack, robust and loss."""
        arrays = {"y": self.y, "clean": self.clean, "clean_loss": self.loss}
        for name in self.robust:
            arrays |= {f"{name}": self.robust[name], f"{name}_loss": self.adversarial_loss[name]}
        return {name: value.numpy() for name, value in arrays.items()}


def attack_all(net: Network, attacks: Mapping[str, Attack], loader: Loader, *, seed: int) -> Outcomes:
    """Run every attack on every example of a split.

    Args:
        net: on the loader's device; evaluated in float32 and eval mode.
        attacks: by the name that their metric will carry.
        seed: of the run; the randomness of an attack depends on it, on the attack's name and on the batch, so that leaving out
            one attack changes nothing for another.
    """
    columns: dict[str, list[Tensor]] = {}

    def add(name: str, values: Tensor) -> None:
        columns.setdefault(name, []).append(values.detach().cpu())

    with probing(net, "eval"), torch.no_grad():
        for number, batch in enumerate(loader):
            logits = net(batch.x).float()
            clean = logits.argmax(1) == batch.y
            add("y", batch.y)
            add("probabilities", logits.softmax(1))
            add("loss", F.cross_entropy(logits, batch.y, reduction="none"))
            for name, attack in attacks.items():
                rekey(seed, "evaluation", name, number)
                adversarial = net(attack.perturb(net, batch)).float()
                add(f"robust {name}", clean & (adversarial.argmax(1) == batch.y))
                add(f"loss {name}", F.cross_entropy(adversarial, batch.y, reduction="none"))
    whole = {name: torch.cat(parts) for name, parts in columns.items()}
    return Outcomes(
        y=whole["y"],
        probabilities=whole["probabilities"],
        loss=whole["loss"],
        robust={name: whole[f"robust {name}"] for name in attacks},
        adversarial_loss={name: whole[f"loss {name}"] for name in attacks},
    )
