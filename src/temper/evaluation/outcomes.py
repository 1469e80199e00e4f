"""What happened to every single example: the ground on which all numbers of an evaluation stand."""

from collections.abc import Mapping
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from temper.attacks import Attack, Cascade, Filling, probing
from temper.data import Batch, Loader
from temper.evaluation.ledger import Ledger
from temper.models import Network
from temper.runs.seeding import rekey


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
        predicted: by attack, the class that an example is taken for after it, (N,) int64; as without an attack where that is
            wrong already.
        kept: rows of the K examples that are kept to be looked at, (K,) int64, spread evenly over the split.
        points: their inputs under "clean", (K, ...), and by attack what became of them; cascades, which take on only what still
            stands, leave none.
        odds: of two classes, logit of class 1 minus that of class 0, (N,), under "clean" and by attack; none of more classes.
    """

    y: Tensor
    probabilities: Tensor
    loss: Tensor
    robust: dict[str, Tensor]
    adversarial_loss: dict[str, Tensor]
    predicted: dict[str, Tensor]
    kept: Tensor
    points: dict[str, Tensor]
    odds: dict[str, Tensor]

    @property
    def clean(self) -> Tensor:
        """Whether an example is classified rightly, (N,) bool."""
        return self.probabilities.argmax(1) == self.y

    @property
    def worst_case(self) -> Tensor:
        """Whether an example withstands every attack, (N,) bool."""
        return torch.stack([self.clean, *self.robust.values()]).all(0)

    def arrays(self) -> dict[str, np.ndarray]:
        """For the .npz of a checkpoint: y, clean and, by attack, robust, loss and prediction; `examples`, if any are kept."""
        arrays = {"y": self.y, "clean": self.clean, "clean_loss": self.loss}
        arrays["clean_prediction"] = self.probabilities.argmax(1).short()
        for name in self.robust:
            arrays |= {f"{name}": self.robust[name], f"{name}_loss": self.adversarial_loss[name]}
            arrays[f"{name}_prediction"] = self.predicted[name].short()
        if len(self.kept):
            arrays |= {"examples": self.kept} | {f"examples/{name}": points for name, points in self.points.items()}
        return {name: value.numpy() for name, value in arrays.items()}


def attack_all(
    net: Network, attacks: Mapping[str, Attack], loader: Loader, *, seed: int, keep: int = 0, ledger: Ledger | None = None
) -> Outcomes:
    """Run every attack on every example of a split; a cascade alone leaves out what it has broken.

    Args:
        net: on the loader's device; evaluated in float32 and eval mode.
        attacks: by the name that their metric will carry.
        seed: of the run; the randomness of an attack depends on it, on the attack's name and on the batch, so that leaving out
            one attack changes nothing for another.
        keep: of so many examples the points are kept as well.
        ledger: keeps what is finished; None: nothing is kept.
    """
    ledger = Ledger() if ledger is None else ledger
    # As whole numbers: rounding must not name a row twice.
    kept = torch.arange(min(keep, len(loader.y))) * len(loader.y) // max(1, min(keep, len(loader.y)))
    with probing(net, "eval"), torch.no_grad():
        clean = _joined([_clean(net, batch, kept, seed, number) for number, batch in enumerate(loader)])
        y, before = clean["y"], clean["probabilities"].argmax(1)
        right = before == y
        robust, loss, predicted, points = {}, {}, {}, {"clean": clean["points"]}
        odds = {"clean": clean["odds"]} if "odds" in clean else {}
        for name, attack in attacks.items():
            if isinstance(attack, Cascade):
                found = _cascade(net, name, attack, loader, clean, seed, ledger)
            else:
                found = _attacked(net, name, attack, loader, kept, seed, ledger)
                points[name] = found["points"]
            robust[name], loss[name] = right & (found["prediction"] == y), found["loss"]
            predicted[name] = torch.where(right, found["prediction"], before)
            odds |= {name: found["odds"]} if "odds" in found else {}
    return Outcomes(y, clean["probabilities"], clean["loss"], robust, loss, predicted, kept, points, odds)


def _clean(net: Network, batch: Batch, kept: Tensor, seed: int, number: int) -> dict[str, Tensor]:
    rekey(seed, "clean", number)  # a network may be random, which is for the audit to say
    logits = net(batch.x).float()
    loss = F.cross_entropy(logits, batch.y, reduction="none")
    points = batch.x[torch.isin(batch.index.cpu(), kept)]
    found = {"y": batch.y, "probabilities": logits.softmax(1), "loss": loss, "points": points, **_odds(logits)}
    return {name: value.cpu() for name, value in found.items()}


def _attacked(
    net: Network,
    name: str,
    attack: Attack,
    loader: Loader,
    kept: Tensor,
    seed: int,
    ledger: Ledger,
    rows: Tensor | None = None,
) -> dict[str, Tensor]:
    """What the examples are taken for under an attack, and their loss, (N,) each; the points of the kept ones, (K, ...).

    Args:
        rows: which of the split's examples the loader has, (N,) int64, where that follows from computed numbers: on another
            machine their order may be another one, and a piece is taken for those examples alone that it was made of.
    """
    pieces = []
    for number, batch in enumerate(ledger.follow(loader, len(loader), name)):

        def compute(batch: Batch = batch, number: int = number) -> dict[str, Tensor]:
            rekey(seed, "evaluation", name, number)
            # The last batch may be short: its forward passes may have as many rows as those of a full one all the same.
            more = {"rows": loader.batch_size} if isinstance(attack, Filling) else {}
            x_adv = attack.perturb(net, batch, **more)
            logits = net(x_adv).float()
            loss = F.cross_entropy(logits, batch.y, reduction="none")
            points = x_adv[torch.isin(batch.index.cpu(), kept)]
            return {"prediction": logits.argmax(1), "loss": loss, "points": points, **_odds(logits)}

        own = "" if rows is None else f"-{crc32(rows[batch.index.cpu()].numpy().tobytes()):08x}"
        pieces.append(ledger.piece(f"{name}-{number}{own}", compute))
    return _joined(pieces)


def _cascade(
    net: Network,
    name: str,
    cascade: Cascade,
    loader: Loader,
    clean: dict[str, Tensor],
    seed: int,
    ledger: Ledger,
) -> dict[str, Tensor]:
    """The same for attacks that each take on only what the ones before them left standing, in full batches.

    Those with the highest loss so far come first: batches of what falls easily are soon done, and the others stay full.
    """
    y, none = clean["y"], torch.empty(0, dtype=torch.int64)
    now: dict[str, Tensor] = {kind: clean[kind].clone() for kind in ("loss", "odds") if kind in clean}
    now["prediction"] = clean["probabilities"].argmax(1)
    prediction, highest = now["prediction"], now["loss"].clone()
    for stage, attack in cascade.attacks.items():
        order = highest.argsort(descending=True, stable=True)
        standing = order[prediction[order] == y[order]]
        if len(standing) == 0:
            break
        found = _attacked(net, f"{name}-{stage}", attack, loader.only(standing), none, seed, ledger, standing)
        highest[standing] = torch.maximum(highest[standing], found["loss"])
        broken = found["prediction"] != y[standing]
        fallen = standing[broken]
        for kind, values in now.items():
            values[fallen] = found[kind][broken]
    return now


def _odds(logits: Tensor) -> dict[str, Tensor]:
    return {"odds": logits[:, 1] - logits[:, 0]} if logits.shape[1] == 2 else {}


def _joined(pieces: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.cat([piece[key] for piece in pieces]) for key in pieces[0]}
