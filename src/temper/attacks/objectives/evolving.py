"""Training against several attacks that are drawn by their success and grow over time."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from temper.attacks.ascent import Ascent
from temper.attacks.attack import Attack
from temper.attacks.network_state import probing
from temper.attacks.objectives.single_step import Free
from temper.attacks.threat import Threat
from temper.config.types import Positive, Probability, checked
from temper.data.batch import Batch
from temper.models.network import Network


class Evolving(Attack):
    """One of several attacks for each batch, drawn in proportion to its current success rate.

    The success rate of an attack is the fraction of examples that are misclassified at its points, as a moving average over the
    batches it was used on; it takes one more forward pass per batch. An attack that no longer succeeds is drawn less often but
    never dropped (`floor`), so it is noticed if it works again. Radius and steps can grow to their full values during the first
    part of training (curriculum adversarial training: Cai et al. 2018, https://arxiv.org/abs/1805.04807). Probabilities are
    fixed for 50 batches, since reading them from a GPU waits for it.

    Args:
        attacks: the attacks by name; each brings its own risk.
        ramp_eps: fraction of training during which every radius grows from zero to full; 0: full from the start.
        ramp_steps: fraction of training during which the number of steps grows from one to full.
        floor: constant added to every success rate.
        memory: decay of the moving average per batch.

    Raises:
        ValueError: There is no attack, or one that cannot grow, or one that replays its batches.
    """

    UPDATE_EVERY = 50  # batches
    successes: Tensor
    chances: Tensor

    @checked
    def __init__(
        self,
        *,
        attacks: Mapping[str, Attack],
        ramp_eps: Probability = 0.0,
        ramp_steps: Probability = 0.0,
        floor: Positive = 0.05,
        memory: Probability = 0.98,
    ) -> None:
        super().__init__()
        if not attacks:
            raise ValueError("attacks: no attack is given. Name at least one.")
        fixed = [name for name, attack in attacks.items() if not isinstance(attack, Ascent)]
        if (ramp_eps or ramp_steps) and fixed:
            raise ValueError(f"attacks: {', '.join(fixed)} cannot grow. Set ramp_eps=0 and ramp_steps=0, or remove the attack.")
        if replaying := [name for name, attack in attacks.items() if isinstance(attack, Free)]:
            raise ValueError(f"attacks: {', '.join(replaying)} replays its batches. Remove it and train it alone.")
        self.members = nn.ModuleList(attacks.values())
        self.full = [(getattr(member, "threat", None), getattr(member, "steps", 1)) for member in attacks.values()]
        self.ramp_eps, self.ramp_steps, self.floor, self.memory = ramp_eps, ramp_steps, floor, memory
        # Every attack counts as successful until it was seen to fail.
        self.register_buffer("successes", torch.ones(len(attacks)))
        self.register_buffer("chances", torch.full((len(attacks),), 1 / len(attacks)))
        self._cpu_chances: Tensor | None = None
        self._current: Attack = next(iter(attacks.values()))

    @property
    def threat(self) -> Threat | None:
        """The largest of the members' full perturbation sets if they share a norm, else None; evaluations should cover it."""
        threats = [threat for threat, _ in self.full if isinstance(threat, Threat)]
        return max(threats, key=lambda threat: threat.eps) if len({threat.norm for threat in threats}) == 1 else None

    @property
    def steps(self) -> int:
        """The largest number of steps of a member."""
        return max(steps for _, steps in self.full)

    def begin(self, step: int, done: float) -> None:
        if step % self.UPDATE_EVERY == 0:
            weights = self.successes + self.floor
            self.chances.copy_(weights / weights.sum())
            self._cpu_chances = None
        for member, (threat, steps) in zip(self.members, self.full, strict=True):
            if isinstance(member, Ascent) and threat is not None:
                # A radius must be positive, also at the first step.
                member.threat = replace(threat, eps=threat.eps * max(_ramp(done, self.ramp_eps), 1e-3))
                member.steps = max(1, round(steps * _ramp(done, self.ramp_steps)))

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        if self._cpu_chances is None:
            self._cpu_chances = self.chances.cpu()
        index = int(torch.multinomial(self._cpu_chances, 1))
        self._current = cast(Attack, self.members[index])
        x_adv = self._current.perturb(net, batch)
        with probing(net, "eval"), torch.no_grad():
            success = (net(x_adv).argmax(1) != batch.y).float().mean()
        self.successes[index] = self.memory * self.successes[index] + (1 - self.memory) * success
        return x_adv

    def risk(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return self._current.risk(net, batch, x_adv)


def _ramp(done: float, length: float) -> float:
    """Return the progress, 0 to 1, of a linear ramp over the first `length` of training, of which a fraction `done` is over."""
    return 1.0 if length == 0 else min(1.0, done / length)
