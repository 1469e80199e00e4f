"""Per-example outcomes, from which every evaluation metric is computed."""

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
    """Outcomes of N examples of C classes under a set of attacks, on the CPU.

    Attributes:
        y: labels, (N,).
        probabilities: softmax of the clean logits, (N, C).
        loss: clean cross-entropy, (N,).
        robust: by attack, True where an example is classified correctly both before and after it, (N,) bool. (x itself is in
            the perturbation set, so an example that is misclassified without an attack is not robust.)
        adversarial_loss: by attack, cross-entropy at the point that it returned, (N,). It is not a maximum where an attack
            stops as soon as it succeeds, and it is the clean loss where an attack (a cascade, some of torchattacks) returns x
            itself.
        predicted: by attack, predicted class after it, (N,) int64; the clean prediction where that is already wrong.
        kept: indices of the K examples whose inputs are kept for inspection, (K,) int64, spread evenly over the split.
        points: inputs of the kept examples under "clean", (K, ...), and their perturbed versions by attack. Cascades, which
            attack only the examples that are still robust, have none.
        odds: for two classes, logit of class 1 minus logit of class 0, (N,), under "clean" and by attack; else empty.
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
        """True where an example is classified correctly without an attack, (N,) bool."""
        return self.probabilities.argmax(1) == self.y

    @property
    def worst_case(self) -> Tensor:
        """True where an example is robust to every attack, (N,) bool."""
        return torch.stack([self.clean, *self.robust.values()]).all(0)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of a checkpoint's .npz file.

        They are `y`, `clean`, `clean_loss` and `clean_prediction`; by attack `<attack>`, `<attack>_loss` and
        `<attack>_prediction`; and, if examples are kept, `examples` and `examples/<name>`.
        """
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
    """Run every attack on every example of a split; only the later stages of a cascade skip examples that are broken.

    Args:
        net: the network, on the loader's device; evaluated in float32 and eval mode.
        attacks: by the name of their metric.
        loader: of the split.
        seed: of the run. The randomness of an attack is keyed by the seed, the attack's name and the batch, so it does not
            depend on which other attacks are run.
        keep: number of examples whose inputs are kept.
        ledger: stores finished batches; None stores nothing.
    """
    ledger = Ledger() if ledger is None else ledger
    # Integer arithmetic: with rounding, an index could occur twice.
    kept = torch.arange(min(keep, len(loader.y))) * len(loader.y) // max(1, min(keep, len(loader.y)))
    with probing(net, "eval"), torch.no_grad():
        clean = _concatenate([_evaluate_clean(net, batch, kept, seed, number) for number, batch in enumerate(loader)])
        y, before = clean["y"], clean["probabilities"].argmax(1)
        correct = before == y
        robust, loss, predicted, points = {}, {}, {}, {"clean": clean["points"]}
        odds = {"clean": clean["odds"]} if "odds" in clean else {}
        for name, attack in attacks.items():
            if isinstance(attack, Cascade):
                attacked = _run_cascade(net, name, attack, loader, clean, seed, ledger)
            else:
                attacked = _run_attack(net, name, attack, loader, kept, seed, ledger)
                points[name] = attacked["points"]
            robust[name], loss[name] = correct & (attacked["prediction"] == y), attacked["loss"]
            predicted[name] = torch.where(correct, attacked["prediction"], before)
            odds |= {name: attacked["odds"]} if "odds" in attacked else {}
    return Outcomes(y, clean["probabilities"], clean["loss"], robust, loss, predicted, kept, points, odds)


def _evaluate_clean(net: Network, batch: Batch, kept: Tensor, seed: int, number: int) -> dict[str, Tensor]:
    """Return labels, probabilities and loss of a clean batch, and the inputs of its kept examples."""
    rekey(seed, "clean", number)  # a network may be random, which the audit reports
    logits = net(batch.x).float()
    loss = F.cross_entropy(logits, batch.y, reduction="none")
    points = batch.x[torch.isin(batch.index.cpu(), kept)]
    values = {"y": batch.y, "probabilities": logits.softmax(1), "loss": loss, "points": points, **_log_odds(logits)}
    return {name: value.cpu() for name, value in values.items()}


def _run_attack(
    net: Network,
    name: str,
    attack: Attack,
    loader: Loader,
    kept: Tensor,
    seed: int,
    ledger: Ledger,
    rows: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return prediction and loss of each example under an attack, (N,) each, and the points of the kept examples, (K, ...).

    Args:
        net: the network.
        name: of the attack.
        attack: to run.
        loader: of the examples.
        kept: indices of the kept examples, (K,).
        seed: of the run.
        ledger: stores finished batches.
        rows: indices of the loader's examples in the split, (N,) int64, if their order follows from computed values. Rounding
            on another machine may change the order, so a stored batch is reused only for the examples it was computed from.
    """
    pieces = []
    for number, batch in enumerate(ledger.track(loader, len(loader), name)):

        def compute(batch: Batch = batch, number: int = number) -> dict[str, Tensor]:
            rekey(seed, "evaluation", name, number)
            # The last batch may be short; these attacks can fill its forward passes up to a full batch.
            more = {"rows": loader.batch_size} if isinstance(attack, Filling) else {}
            x_adv = attack.perturb(net, batch, **more)
            logits = net(x_adv).float()
            loss = F.cross_entropy(logits, batch.y, reduction="none")
            points = x_adv[torch.isin(batch.index.cpu(), kept)]
            return {"prediction": logits.argmax(1), "loss": loss, "points": points, **_log_odds(logits)}

        suffix = "" if rows is None else f"-{crc32(rows[batch.index.cpu()].numpy().tobytes()):08x}"
        pieces.append(ledger.load_or_compute(f"{name}-{number}{suffix}", compute))
    return _concatenate(pieces)


def _run_cascade(
    net: Network,
    name: str,
    cascade: Cascade,
    loader: Loader,
    clean: dict[str, Tensor],
    seed: int,
    ledger: Ledger,
) -> dict[str, Tensor]:
    """Run the attacks of a cascade in turn, each in full batches on the examples that are still robust.

    Examples are sorted by descending loss: batches of easy examples finish early, and the other batches stay full.
    """
    y, none = clean["y"], torch.empty(0, dtype=torch.int64)
    state: dict[str, Tensor] = {kind: clean[kind].clone() for kind in ("loss", "odds") if kind in clean}
    state["prediction"] = clean["probabilities"].argmax(1)
    prediction, highest = state["prediction"], state["loss"].clone()
    for stage, attack in cascade.attacks.items():
        order = highest.argsort(descending=True, stable=True)
        robust = order[prediction[order] == y[order]]
        if len(robust) == 0:
            break
        attacked = _run_attack(net, f"{name}-{stage}", attack, loader.subset(robust), none, seed, ledger, robust)
        highest[robust] = torch.maximum(highest[robust], attacked["loss"])
        success = attacked["prediction"] != y[robust]
        broken = robust[success]
        for kind, values in state.items():
            values[broken] = attacked[kind][success]
    return state


def _log_odds(logits: Tensor) -> dict[str, Tensor]:
    return {"odds": logits[:, 1] - logits[:, 0]} if logits.shape[1] == 2 else {}


def _concatenate(pieces: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.cat([piece[key] for piece in pieces]) for key in pieces[0]}
