"""What happened to every single example: the ground on which all numbers of an evaluation stand."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from temper.attacks import Attack, Cascade, probing
from temper.data import Batch, Loader
from temper.evaluation.ledger import Ledger
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
        adversarial_loss: by attack, cross-entropy at the point that it returned, (N,). That is no maximum where an attack stops
            as soon as it succeeds, and the clean loss where one (a cascade, some of torchattacks) returns x itself.
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


def attack_all(
    net: Network, attacks: Mapping[str, Attack], loader: Loader, *, seed: int, ledger: Ledger | None = None
) -> Outcomes:
    """Run every attack on every example of a split; a cascade alone leaves out what it has broken.

    Args:
        net: on the loader's device; evaluated in float32 and eval mode.
        attacks: by the name that their metric will carry.
        seed: of the run; the randomness of an attack depends on it, on the attack's name and on the batch, so that leaving out
            one attack changes nothing for another.
        ledger: keeps what is finished; None: nothing is kept.
    """
    ledger = Ledger() if ledger is None else ledger
    with probing(net, "eval"), torch.no_grad():
        clean = _joined([_clean(net, batch, seed, number) for number, batch in enumerate(loader)])
        right = clean["probabilities"].argmax(1) == clean["y"]
        robust, loss = {}, {}
        for name, attack in attacks.items():
            if isinstance(attack, Cascade):
                robust[name], loss[name] = _cascade(net, name, attack, loader, right, clean["loss"], seed, ledger)
            else:
                found = _attacked(net, name, attack, loader, seed, ledger)
                robust[name], loss[name] = right & found["right"], found["loss"]
    return Outcomes(clean["y"], clean["probabilities"], clean["loss"], robust, loss)


def _clean(net: Network, batch: Batch, seed: int, number: int) -> dict[str, Tensor]:
    rekey(seed, "clean", number)  # a network may be random, which is for the audit to say
    logits = net(batch.x).float()
    loss = F.cross_entropy(logits, batch.y, reduction="none")
    return {"y": batch.y.cpu(), "probabilities": logits.softmax(1).cpu(), "loss": loss.cpu()}


def _attacked(net: Network, name: str, attack: Attack, loader: Loader, seed: int, ledger: Ledger) -> dict[str, Tensor]:
    """Whether the examples are right under an attack, and their loss, (N,) each."""
    pieces = []
    for number, batch in enumerate(ledger.follow(loader, len(loader), name)):

        def compute(batch: Batch = batch, number: int = number) -> dict[str, Tensor]:
            rekey(seed, "evaluation", name, number)
            logits = net(attack.perturb(net, batch)).float()
            return {"right": logits.argmax(1) == batch.y, "loss": F.cross_entropy(logits, batch.y, reduction="none")}

        pieces.append(ledger.piece(f"{name}-{number}", compute))
    return _joined(pieces)


def _cascade(
    net: Network, name: str, cascade: Cascade, loader: Loader, right: Tensor, loss: Tensor, seed: int, ledger: Ledger
) -> tuple[Tensor, Tensor]:
    """The same for attacks that each take on only what the ones before them left standing, in full batches."""
    robust, loss = right.clone(), loss.clone()
    for stage, attack in cascade.attacks.items():
        standing = robust.nonzero().squeeze(1)
        if len(standing) == 0:
            break
        found = _attacked(net, f"{name}-{stage}", attack, loader.only(standing), seed, ledger)
        fallen = standing[~found["right"]]
        robust[fallen] = False
        loss[fallen] = found["loss"][~found["right"]]
    return robust, loss


def _joined(pieces: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.cat([piece[key] for piece in pieces]) for key in pieces[0]}
