"""Weights of penalties that are learned from held-out data."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning import Callback
from torch import Tensor
from torch.func import functional_call

from temper.attacks.network_state import probing
from temper.config.types import Count, NonNegative, Positive, checked
from temper.data import Batch, DataModule
from temper.models import Network, StepNetwork, still_statistics
from temper.penalties.dynamic import Steering
from temper.penalties.gradient_ratios import length, mean_over_ranks
from temper.penalties.penalty import PenaltyGroup
from temper.runs.seeding import generator, rekey


class Meta(Steering):
    """Learns the weights of several penalties while the network trains, by the gradient of one step of it: how would the
    adversarial loss on held-out data change, had the last step been taken with a little more of a penalty?

        w' = w - lr (g + sum_i lambda_i g_i),   d L(w') / d lambda_i = -lr <grad L(w'), g_i>

    with g the gradient of the risk and g_i of penalty i, on the same training batch (Luketina et al. 2016,
    https://arxiv.org/abs/1511.06727, eq. 4; Franceschi et al. 2018, https://arxiv.org/abs/1806.04910, with one inner step). L
    is the cross-entropy of validation examples under the validation attack, found at w'. For a plain gradient step, which w' is
    whatever the optimizer does, this is exact.

    As lambda_i > 0 and the scales of penalties differ by orders of magnitude, it is the logarithm that moves, by the cosine of
    the two gradients: log lambda_i <- log lambda_i + rate * cos(grad L(w'), g_i), from the configured weight, within a factor
    `most` of it. The validation split, which chooses best.ckpt as well, is used here as it is for choosing strengths; the test
    split is not touched.

    Costs, every `every` steps, an attack step in training and in validation and one backward pass for each penalty.

    Args:
        of: names of the penalties whose weights are learned; null: all that add a term.
        rate: of learning; 0: the weights stay.
        every: steps between two updates.
        size: held-out examples in each.
        most: largest factor of a configured weight, and inverse of the smallest.
    """

    terms_alone = True
    neutral = ("rate=0",)

    @checked
    def __init__(
        self,
        *,
        of: Sequence[str] | None = None,
        rate: NonNegative = 0.1,
        every: Count = 5,
        size: Count = 128,
        most: Positive = 100.0,
    ) -> None:
        super().__init__(of=of)
        if most < 1:
            raise ValueError("most: should be 1 or greater")
        self.rate, self.every, self.size, self.most = rate, every, size, most

    def callbacks(self, penalties: PenaltyGroup) -> list[Callback]:
        return [_Learner(self, penalties)]


class _Learner(Callback):
    """Moves the factors before a training step; they are part of the penalties' state."""

    def __init__(self, meta: Meta, penalties: PenaltyGroup) -> None:
        self.meta, self.penalties = meta, penalties

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int) -> None:
        step = trainer.global_step
        # Batches that accumulate their gradients are one step.
        if not self.meta.rate or step % self.meta.every or batch_idx % trainer.accumulate_grad_batches:
            return
        module = cast(Any, pl_module)
        # A look ahead: what an attack notes of its success is noted in the step itself.
        known = [(buffer, buffer.clone()) for buffer in module.attack.buffers()]
        with still_statistics(module.net):
            risk, gradients = module.gradients(module.objective(batch, batch_idx))
        for buffer, before in known:
            buffer.copy_(before)
        moved = self._stepped(risk, gradients, trainer.optimizers[0].param_groups[0]["lr"])
        held_out = self._held_out(trainer, pl_module, step)
        found = hypergradient(module.net, moved, held_out, module.validation, key=(module.seed, "meta", step))
        for name, gradient in gradients.items():
            if name in self.penalties.steered_by(self.meta):
                self._move(name, _cosine(found, gradient))

    def _stepped(self, risk: Mapping[str, Tensor], terms: Mapping[str, Mapping[str, Tensor]], lr: float) -> dict[str, Tensor]:
        """w' - w by the names of parameters."""
        total = dict(risk)
        for name, gradient in terms.items():
            for parameter, value in gradient.items():
                weighted = self.penalties.weight(name) * value
                total[parameter] = total[parameter] + weighted if parameter in total else weighted
        return {name: -lr * gradient for name, gradient in total.items()}

    def _held_out(self, trainer: pl.Trainer, pl_module: pl.LightningModule, step: int) -> Batch:
        data = cast(DataModule, trainer.datamodule)  # type: ignore[attr-defined]
        loader = data.loader("val", batch_size=len(data.split("val").y), device=pl_module.device)
        batch = next(iter(loader))
        rows = torch.randperm(len(batch), generator=generator(cast(int, pl_module.seed), "held out", step))[: self.meta.size]
        return batch.select(rows.to(batch.y.device))

    def _move(self, name: str, cosine: float) -> None:
        factor = self.penalties.factors.get(name, 1.0) * math.exp(self.meta.rate * cosine)
        self.penalties.steer(name, min(max(factor, 1 / self.meta.most), self.meta.most))


def hypergradient(
    net: Network, moved: Mapping[str, Tensor], held_out: Batch, attack: Any, key: tuple[int | str, ...]
) -> dict[str, Tensor]:
    """grad L(w') by the names of parameters, L the mean cross-entropy of held-out examples under an attack.

    Args:
        moved: w' - w.
    """
    seed, *purpose = key
    rekey(cast(int, seed), *purpose)
    x_adv = attack.perturb(StepNetwork(net, moved), held_out)
    trained = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
    there = {
        name: (p.detach() + moved[name] if name in moved else p.detach()).requires_grad_(True) for name, p in trained.items()
    }
    with probing(net, "eval"):
        loss = F.cross_entropy(functional_call(net, there, (x_adv,)).float(), held_out.y)
        found = torch.autograd.grad(loss, list(there.values()), allow_unused=True)
    return {name: gradient for name, gradient in zip(there, found, strict=True) if gradient is not None}


def _cosine(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    product = torch.stack([(one[name] * other[name]).sum() for name in one if name in other]).sum()
    return float(mean_over_ranks(product / (length(one) * length(other)).clamp_min(1e-30)))
