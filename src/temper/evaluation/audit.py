"""Whether a robust accuracy can be believed: the symptoms of masked gradients and of attacks that were too weak."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from temper.attacks import PGD, Noise, Square, Threat, probing
from temper.attacks.ascent import Worst, ascend
from temper.attacks.gradient_step import at_rows, input_gradient, step_length
from temper.attacks.losses import cross_entropy
from temper.config.types import Count, Probability, checked
from temper.data import Batch, Loader
from temper.evaluation.ledger import Ledger
from temper.models import Network
from temper.runs.record_schema import Status
from temper.runs.seeding import rekey


@dataclass(frozen=True)
class Finding:
    """One check of one network.

    Attributes:
        status: passed, warned or failed.
        figure: what was measured, a share of the examples that were looked at.
        meaning: what the figure is.
    """

    status: Status
    figure: float
    meaning: str


# What each figure is. All but the last two are shares that should be next to nothing.
MEANING = {
    "randomized": "of the examples get another output when asked again",
    "zero_gradients": "of the examples have an input gradient of exactly zero",
    "iterative": "more examples withstand PGD than its single step FGSM",
    "steps": "of the examples withstand the suite, and fall to PGD of twice the audit's steps",
    "restarts": "of the examples withstand the suite and that PGD, and fall to further restarts",
    "gradient_free": "of the examples fall to Square and not to PGD",
    "noise": "of the examples fall to random noise and not to PGD",
    "large_eps": "of the examples withstand half of the whole valid range",
    "overfitting": "more examples withstand FGSM than PGD, of a network trained against an attack",
    "minimal_norm": "of the examples withstand the suite, and a minimal-norm attack breaks them within eps",
    "transfer": "of the examples fall to points made for another network, and not to those made for this one",
}


class Audit:
    """The checks that Athalye et al. 2018 (https://arxiv.org/abs/1802.00420) and Carlini et al. 2019
    (https://arxiv.org/abs/1902.06705) ask of an evaluation, and the sign of catastrophic overfitting (Wong et al. 2020).

    An audit looks at attacks of its own, the same for every network, on a part of the test set. It does not correct a number,
    it says whether to believe it.

    Args:
        threat: the set that the network is evaluated in.
        size: of the part of the test set that is looked at.
        steps: of PGD; the audit doubles them.
        restarts: of PGD, beside the first.
        queries: of Square.
        warn, fail: shares from which a check is warned or failed.
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
            raise ValueError(f"fail ({fail:g}) should not be below warn ({warn:g})")
        self.threat, self.size, self.steps = threat, size, steps
        self.restarts, self.queries, self.warn, self.fail = restarts, queries, warn, fail

    def findings(
        self,
        net: Network,
        loader: Loader,
        *,
        attacked: bool,
        seed: int,
        standing: Tensor | None = None,
        ledger: Ledger | None = None,
    ) -> dict[str, Finding]:
        """Every check by its name.

        Args:
            net: on the loader's device.
            loader: of the test set; its first examples are looked at.
            attacked: whether the network was trained against an attack (only then can it have overfitted to one).
            seed: of the run.
            standing: whether an example withstood the suite that is audited, (N,) bool; None: whether it withstands this
                audit's own PGD.
        """
        ledger = Ledger() if ledger is None else ledger
        part = loader.only(torch.arange(min(self.size, len(loader.y))))
        pieces = []
        for number, batch in enumerate(ledger.follow(part, len(part), "audit")):

            def compute(batch: Batch = batch, number: int = number) -> dict[str, Tensor]:
                rekey(seed, "audit", number)
                return self._look(net, batch)

            pieces.append(ledger.piece(f"audit-{number}", compute))
        seen = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
        right, steps, doubled, restarted = (seen[name] for name in ("right", "steps", "doubled", "restarted"))
        standing = steps if standing is None else standing[: len(right)]
        broken = right & ~(doubled & restarted)
        figures = {
            "randomized": _share(seen["random"]),
            "zero_gradients": _share(seen["zero"]),
            "iterative": max(_share(steps) - _share(seen["fgsm"]), 0.0),
            "steps": _share(standing & ~doubled),
            "restarts": _share(standing & doubled & ~restarted),
            "gradient_free": _share(right & ~seen["square"] & ~broken),
            "noise": _share(right & ~seen["noise"] & ~broken),
        }
        # Features that cannot change may tell the class whatever the radius.
        if "large" in seen:
            figures["large_eps"] = _share(seen["large"])
        found = {name: self.judge(name, figure) for name, figure in figures.items()}
        if attacked:
            found["overfitting"] = self.judge("overfitting", max(_share(seen["fgsm"]) - _share(doubled), 0.0))
        return found

    def judge(self, check: str, figure: float) -> Finding:
        """The verdict on a figure. Any randomness is a failure; FGSM is always a little weaker than PGD."""
        warn, fail = {"randomized": (0.0, 0.0), "overfitting": (0.15, 0.3)}.get(check, (self.warn, self.fail))
        status: Status = "failed" if figure > fail else "warned" if figure > warn else "passed"
        return Finding(status, figure, MEANING[check])

    def _look(self, net: Network, batch: Batch) -> dict[str, Tensor]:
        """What each check rests on, example by example, (B,) bool: whether the examples withstand an attack, and symptoms."""
        with probing(net, "eval"):
            z = net.lift(batch.x).detach()
            with torch.no_grad():
                one, other = net(z), net(z)
            right = one.argmax(1) == batch.y
            gradient, _ = input_gradient(cross_entropy(net, batch.y), z)
        noise = self._withstands(net, batch, lambda: Noise(threat=self.threat).perturb(net, batch))
        fgsm = self._withstands(net, batch, lambda: PGD(threat=self.threat, steps=1, start="zero").perturb(net, batch))
        square = self._withstands(net, batch, lambda: Square(threat=self.threat, queries=self.queries).perturb(net, batch))
        steps, doubled = self._climbs(net, batch)
        restarted = doubled.clone()
        for _ in range(self.restarts):
            left = restarted.nonzero().squeeze(1)
            if len(left):
                restarted[left] &= self._climbs(net, batch.select(left))[0]
        seen = {
            "right": right,
            "random": ~torch.isclose(one.float().softmax(1), other.float().softmax(1), atol=1e-4).all(1),
            "zero": (gradient == 0).flatten(1).all(1),
            "noise": right & noise,
            "fgsm": right & fgsm,
            "square": right & square,
            "steps": right & steps,
            "doubled": right & doubled,
            "restarted": right & restarted,
        }
        if batch.mask is None:
            half = self.threat.on(batch).diameter(z[0].numel()) / 2
            large = PGD(threat=replace(self.threat, eps=half), steps=2 * self.steps, keep="worst")
            seen["large"] = right & self._withstands(net, batch, lambda: large.perturb(net, batch))
        return seen

    @staticmethod
    def _withstands(net: Network, batch: Batch, perturb: Callable[[], Tensor]) -> Tensor:
        with probing(net, "eval"), torch.no_grad():
            return net(perturb()).argmax(1) == batch.y

    def _climbs(self, net: Network, batch: Batch) -> tuple[Tensor, Tensor]:
        """Which examples withstand PGD, and PGD that goes on for as long again, (B,) bool each."""
        with probing(net, "eval"):
            z = net.lift(batch.x).detach()
            ball, worst, verdicts = self.threat.on(batch).around(z), Worst(z, batch.y), []
            climb = at_rows(cross_entropy(net, batch.y), ball.threat, z)
            step_size = step_length(None, self.threat, self.steps)
            point = ball.start("uniform", batch.mask)
            for _ in range(2):
                point = ascend(climb, ball, point, steps=self.steps, step_size=step_size, mask=batch.mask, worst=worst)
                verdicts.append(self._withstands(net, batch, lambda: ball.finish(worst.z)))
        return verdicts[0], verdicts[0] & verdicts[1]


def _share(chosen: Tensor) -> float:
    return float(chosen.double().mean())
