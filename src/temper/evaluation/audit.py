"""Audit of a robust accuracy: checks for masked gradients and for attacks that are too weak."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from temper.attacks import PGD, Noise, Square, Threat, probing
from temper.attacks.ascent import WorstPoints, ascend
from temper.attacks.gradient_step import at_valid_rows, input_gradient, step_length
from temper.attacks.losses import cross_entropy
from temper.config.types import Count, Probability, checked
from temper.data import Batch, Loader
from temper.evaluation.ledger import Ledger
from temper.models import Network
from temper.runs.record_schema import Status
from temper.runs.seeding import rekey


@dataclass(frozen=True)
class Finding:
    """Result of one check of one network.

    Attributes:
        status: passed, warned or failed.
        figure: the measured fraction of the audited examples.
        meaning: a description of the figure that reads well after a percentage.
    """

    status: Status
    figure: float
    meaning: str


# Figures that should be close to zero, by check. Each phrase follows a percentage.
MEANING = {
    "randomized": "of examples give a different output when evaluated a second time",
    "zero_gradients": "of examples have an input gradient of exactly zero",
    "iterative": "more examples are robust to PGD than to FGSM, which is a single step of it",
    "steps": "of examples are robust to the suite, but not to PGD with twice the audit's steps",
    "restarts": "of examples are robust to the suite and to PGD with twice the steps, but not to further random restarts",
    "gradient_free": "of examples are broken by the gradient-free attack Square, but not by PGD",
    "noise": "of examples are broken by random noise, but not by PGD",
    "large_eps": "of examples are robust to PGD even when eps is half the diameter of the valid input range",
    "overfitting": "more examples are robust to FGSM than to PGD after adversarial training (catastrophic overfitting)",
    "minimal_norm": "of examples are robust to the suite, but a minimal-norm attack breaks them within eps",
    "transfer": "of examples are robust to the suite, but broken by adversarial examples made for another network",
}


class Audit:
    """Checks whether the robust accuracy of a network can be trusted.

    They are recommended by Athalye et al. 2018 (https://arxiv.org/abs/1802.00420) and Carlini et al. 2019
    (https://arxiv.org/abs/1902.06705), and include a check for catastrophic overfitting (Wong et al. 2020).

    An audit runs a fixed set of attacks, the same for every network, on the first examples of the test set. It corrects
    no metric.

    Args:
        threat: perturbation set of the evaluation.
        size: number of test examples that are audited.
        steps: of PGD; the audit also runs twice as many.
        restarts: of PGD, in addition to the first run.
        queries: of Square.
        warn: fraction above which a check is warned.
        fail: fraction above which a check is failed.

    Raises:
        ValueError: `fail` is below `warn`.
    """

    @checked
    def __init__(
        self,
        *,
        threat: Threat,
        size: Count = 200,
        steps: Count = 20,
        restarts: Count = 4,
        queries: Count = 200,
        warn: Probability = 0.02,
        fail: Probability = 0.05,
    ) -> None:
        if fail < warn:
            raise ValueError(f"fail: {fail:g} is below warn ({warn:g}). Set fail to at least warn.")
        self.threat, self.size, self.steps = threat, size, steps
        self.restarts, self.queries, self.warn, self.fail = restarts, queries, warn, fail

    def findings(
        self,
        net: Network,
        loader: Loader,
        *,
        attacked: bool,
        seed: int,
        worst_case: Tensor | None = None,
        ledger: Ledger | None = None,
    ) -> dict[str, Finding]:
        """Run every check and return the findings by name.

        Args:
            net: the network, on the loader's device.
            loader: of the test set; only its first `size` examples are audited.
            attacked: True if the network was trained adversarially; only then it can overfit to its training attack.
            seed: of the run.
            worst_case: True where an example is robust to every attack of the audited suite, (N,) bool. None: robustness to
                the audit's own PGD is used instead.
            ledger: stores finished batches; None stores nothing.
        """
        ledger = Ledger() if ledger is None else ledger
        part = loader.subset(torch.arange(min(self.size, len(loader.y))))
        pieces = []
        for number, batch in enumerate(ledger.track(part, len(part), "audit")):

            def compute(batch: Batch = batch, number: int = number) -> dict[str, Tensor]:
                rekey(seed, "audit", number)
                return self._measure(net, batch)

            pieces.append(ledger.load_or_compute(f"audit-{number}", compute))
        measured = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
        correct, steps, doubled, restarted = (measured[name] for name in ("right", "steps", "doubled", "restarted"))
        robust = steps if worst_case is None else worst_case[: len(correct)]
        broken = correct & ~(doubled & restarted)
        figures = {
            "randomized": _fraction(measured["random"]),
            "zero_gradients": _fraction(measured["zero"]),
            "iterative": max(_fraction(steps) - _fraction(measured["fgsm"]), 0.0),
            "steps": _fraction(robust & ~doubled),
            "restarts": _fraction(robust & doubled & ~restarted),
            "gradient_free": _fraction(correct & ~measured["square"] & ~broken),
            "noise": _fraction(correct & ~measured["noise"] & ~broken),
        }
        # Not measured where some features are immutable: they may determine the class at any radius.
        if "large" in measured:
            figures["large_eps"] = _fraction(measured["large"])
        if attacked:
            figures["overfitting"] = max(_fraction(measured["fgsm"]) - _fraction(doubled), 0.0)
        return {name: self.judge(name, figure) for name, figure in figures.items()}

    def judge(self, check: str, figure: float) -> Finding:
        """Return the finding for a figure.

        Any randomness fails. FGSM is always slightly weaker than PGD, so `overfitting` has wider thresholds.

        Args:
            check: name of the check, a key of `MEANING`.
            figure: the measured fraction.
        """
        warn, fail = {"randomized": (0.0, 0.0), "overfitting": (0.15, 0.3)}.get(check, (self.warn, self.fail))
        status: Status = "failed" if figure > fail else "warned" if figure > warn else "passed"
        return Finding(status, figure, MEANING[check])

    def _measure(self, net: Network, batch: Batch) -> dict[str, Tensor]:
        """Return the per-example measurements from which the figures are computed, (B,) bool each.

        `random` and `zero` are symptoms of masked gradients; all others are True where an example is classified correctly,
        without an attack (`right`) or under the named attack.
        """
        with probing(net, "eval"):
            z = net.lift(batch.x).detach()
            with torch.no_grad():
                first, second = net(z), net(z)
            correct = first.argmax(1) == batch.y
            gradient, _ = input_gradient(cross_entropy(net, batch.y), z)
        noise = self._is_correct(net, batch, lambda: Noise(threat=self.threat).perturb(net, batch))
        fgsm = self._is_correct(net, batch, lambda: PGD(threat=self.threat, steps=1, start="zero").perturb(net, batch))
        square = self._is_correct(net, batch, lambda: Square(threat=self.threat, queries=self.queries).perturb(net, batch))
        steps, doubled = self._run_pgd(net, batch)
        restarted = doubled.clone()
        for _ in range(self.restarts):
            rows = restarted.nonzero().squeeze(1)
            if len(rows):
                restarted[rows] &= self._run_pgd(net, batch.select(rows))[0]
        measured = {
            "right": correct,
            "random": ~torch.isclose(first.float().softmax(1), second.float().softmax(1), atol=1e-4).all(1),
            "zero": (gradient == 0).flatten(1).all(1),
            "noise": correct & noise,
            "fgsm": correct & fgsm,
            "square": correct & square,
            "steps": correct & steps,
            "doubled": correct & doubled,
            "restarted": correct & restarted,
        }
        if batch.mask is None:
            half = self.threat.for_batch(batch).diameter(z[0].numel()) / 2
            large = PGD(threat=replace(self.threat, eps=half), steps=2 * self.steps, keep="worst")
            measured["large"] = correct & self._is_correct(net, batch, lambda: large.perturb(net, batch))
        return measured

    @staticmethod
    def _is_correct(net: Network, batch: Batch, perturb: Callable[[], Tensor]) -> Tensor:
        """Return True where the perturbed example is classified correctly, (B,) bool."""
        with probing(net, "eval"), torch.no_grad():
            return net(perturb()).argmax(1) == batch.y

    def _run_pgd(self, net: Network, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return where examples are robust to PGD after `steps` and after twice as many steps, (B,) bool each."""
        with probing(net, "eval"):
            z = net.lift(batch.x).detach()
            ball, worst, robust = self.threat.for_batch(batch).around(z), WorstPoints(z, batch.y), []
            climb = at_valid_rows(cross_entropy(net, batch.y), ball.threat, z)
            step_size = step_length(None, self.threat, self.steps)
            point = ball.start("uniform", batch.mask)
            for _ in range(2):
                point = ascend(climb, ball, point, steps=self.steps, step_size=step_size, mask=batch.mask, worst=worst)
                robust.append(self._is_correct(net, batch, lambda: ball.finish(worst.z)))
        return robust[0], robust[0] & robust[1]


def _fraction(selected: Tensor) -> float:
    """Return the fraction of True values, in double precision."""
    return float(selected.double().mean())
