"""A defense that meets attacks which change."""

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
    """One of several attacks for each batch, drawn in proportion to how often it still succeeds, growing as training goes on.

    The success of an attack is the share of examples that are misclassified at its points, a moving average over the batches
    that it was used on; it takes one more forward pass a batch. An attack that no longer succeeds is met less often and never
    forgotten (`floor`), so that it is noticed when it works again. Radius and steps can grow from little to full over the first
    part of training (curriculum adversarial training: Cai et al. 2018, https://arxiv.org/abs/1805.04807). Probabilities are
    fixed for 50 batches, since reading them off a GPU waits for it.

    Args:
        attacks: by name; each brings its own risk.
        ramp_eps: share of training over which every radius grows from zero to full; 0: full at once.
        ramp_steps: the same for the number of steps, from one.
        floor: added to every success rate.
        memory: of the moving average, for each batch.
    """

    ROUND = 50
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
            raise ValueError("attacks: name at least one")
        rigid = [name for name, attack in attacks.items() if not isinstance(attack, Ascent)]
        if (ramp_eps or ramp_steps) and rigid:
            raise ValueError(f"attacks: {', '.join(rigid)} cannot grow; set ramp_eps and ramp_steps to 0, or leave it out")
        if replaying := [name for name, attack in attacks.items() if isinstance(attack, Free)]:
            raise ValueError(f"attacks: {', '.join(replaying)} replays its batches and cannot be one of several")
        self.members = nn.ModuleList(attacks.values())
        self.full = [(getattr(member, "threat", None), getattr(member, "steps", 1)) for member in attacks.values()]
        self.ramp_eps, self.ramp_steps, self.floor, self.memory = ramp_eps, ramp_steps, floor, memory
        # Every attack succeeds until it was seen to fail.
        self.register_buffer("successes", torch.ones(len(attacks)))
        self.register_buffer("chances", torch.full((len(attacks),), 1 / len(attacks)))
        self._chances: Tensor | None = None  # on the CPU
        self._member: Attack = next(iter(attacks.values()))

    @property
    def threat(self) -> Threat | None:
        """The widest of its members' full sets, if they share a norm: what an evaluation should not fall short of."""
        threats = [threat for threat, _ in self.full if isinstance(threat, Threat)]
        return max(threats, key=lambda threat: threat.eps) if len({threat.norm for threat in threats}) == 1 else None

    @property
    def steps(self) -> int:
        """The most steps that a member takes."""
        return max(steps for _, steps in self.full)

    def begin(self, step: int, done: float) -> None:
        if step % self.ROUND == 0:
            weights = self.successes + self.floor
            self.chances.copy_(weights / weights.sum())
            self._chances = None
        for member, (threat, steps) in zip(self.members, self.full, strict=True):
            if isinstance(member, Ascent) and threat is not None:
                # A radius is positive, however early it is.
                member.threat = replace(threat, eps=threat.eps * max(_grown(done, self.ramp_eps), 1e-3))
                member.steps = max(1, round(steps * _grown(done, self.ramp_steps)))

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        if self._chances is None:
            self._chances = self.chances.cpu()
        current = int(torch.multinomial(self._chances, 1))
        self._member = cast(Attack, self.members[current])
        x_adv = self._member.perturb(net, batch)
        with probing(net, "eval"), torch.no_grad():
            fooled = (net(x_adv).argmax(1) != batch.y).float().mean()
        self.successes[current] = self.memory * self.successes[current] + (1 - self.memory) * fooled
        return x_adv

    def risk(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return self._member.risk(net, batch, x_adv)


def _grown(done: float, ramp: float) -> float:
    """How far a ramp over this share of training has come, 0 to 1."""
    return 1.0 if ramp == 0 else min(1.0, done / ramp)
