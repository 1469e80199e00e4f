"""Penalty weights that are learned from held-out data."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning import Callback
from torch import Tensor
from torch.func import functional_call

from temper.attacks.network_state import probing
from temper.config.types import Count, NonNegative, checked
from temper.data import Batch, DataModule
from temper.models import Network, StepNetwork, still_statistics
from temper.penalties.dynamic import MaxFactor, Steering, change_factor
from temper.penalties.gradient_ratios import gradient_norm, mean_over_ranks, named_gradients
from temper.penalties.penalty import PenaltyGroup
from temper.runs.seeding import generator, rekey


class Meta(Steering):
    """Learned weights of several penalties, updated during training.

    The update uses the gradient of the adversarial loss on held-out data through one training step:

        w' = w - lr (g + sum_i lambda_i g_i),   d L(w') / d lambda_i = -lr <grad L(w'), g_i>

    where g is the gradient of the risk and g_i that of penalty i, on the same training batch (Luketina et al. 2016,
    https://arxiv.org/abs/1511.06727, eq. 4; Franceschi et al. 2018, https://arxiv.org/abs/1806.04910, with one inner step). L
    is the cross-entropy of validation examples under the validation attack, computed at w'. The derivative is exact for a plain
    gradient step, and w' is such a step for every optimizer.

    Since lambda_i > 0 and the scales of penalties differ by orders of magnitude, the update is on the logarithm and uses the
    cosine of the two gradients: log lambda_i <- log lambda_i + rate * cos(grad L(w'), g_i), starting at the configured weight
    and limited to a factor `most` of it. The validation split, which selects best.ckpt too, is used here as in tuning
    strengths; the test split is not used.

    Costs, every `every` steps, an attack step in training and in validation and one backward pass for each penalty.

    Args:
        of: names of the penalties whose weights are learned; None for all that add a term.
        rate: learning rate of the logarithms; 0 keeps the weights constant.
        every: steps between two updates.
        size: held-out examples per update.
        most: largest factor of a configured weight, and inverse of the smallest.
    """

    terms_only = True
    neutral = ("rate=0",)

    @checked
    def __init__(
        self,
        *,
        of: Sequence[str] | None = None,
        rate: NonNegative = 0.1,
        every: Count = 5,
        size: Count = 128,
        most: MaxFactor = 100.0,
    ) -> None:
        super().__init__(of=of)
        self.rate, self.every, self.size, self.most = rate, every, size, most

    def callbacks(self, penalties: PenaltyGroup) -> list[Callback]:
        return [_WeightLearner(self, penalties)]


class _WeightLearner(Callback):
    """Callback that updates the factors before a training step; they are part of the penalties' state."""

    def __init__(self, meta: Meta, penalties: PenaltyGroup) -> None:
        self.meta, self.penalties = meta, penalties

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int) -> None:
        step = trainer.global_step
        # Batches whose gradients are accumulated are one step.
        if not self.meta.rate or step % self.meta.every or batch_idx % trainer.accumulate_grad_batches:
            return
        module = cast(Any, pl_module)
        # The training step itself updates the attack's buffers; the look-ahead must not.
        saved = [(buffer, buffer.clone()) for buffer in module.attack.buffers()]
        with still_statistics(module.net):
            risk, gradients = module.gradients(module.objective(batch, batch_idx))
        for buffer, value in saved:
            buffer.copy_(value)
        shift = self._step(risk, gradients, trainer.optimizers[0].param_groups[0]["lr"])
        held_out = self._held_out(trainer, pl_module, step)
        outer = hypergradient(module.net, shift, held_out, module.validation, key=(module.seed, "meta", step))
        for name, gradient in gradients.items():
            if name in self.penalties.steered_by(self.meta):
                change_factor(self.penalties, name, self.meta.rate * _cosine(outer, gradient), most=self.meta.most)

    def _step(self, risk: Mapping[str, Tensor], terms: Mapping[str, Mapping[str, Tensor]], lr: float) -> dict[str, Tensor]:
        """Return w' - w, by parameter name."""
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


def hypergradient(
    net: Network, shift: Mapping[str, Tensor], held_out: Batch, attack: Any, key: tuple[int | str, ...]
) -> dict[str, Tensor]:
    """Compute grad L(w'), where L is the mean cross-entropy of held-out examples under an attack.

    Args:
        net: network with the weights w, which do not change.
        shift: w' - w, by parameter name.
        held_out: held-out examples.
        attack: attack on these examples.
        key: seed of the run and purpose, by which the attack's randomness is keyed.

    Returns:
        The gradient by parameter name.
    """
    seed, *purpose = key
    rekey(cast(int, seed), *purpose)
    x_adv = attack.perturb(StepNetwork(net, shift), held_out)
    shifted = {
        name: (parameter.detach() + shift[name] if name in shift else parameter.detach()).requires_grad_(True)
        for name, parameter in net.named_parameters()
        if parameter.requires_grad
    }
    with probing(net, "eval"):
        return named_gradients(F.cross_entropy(functional_call(net, shifted, (x_adv,)).float(), held_out.y), shifted)


def _cosine(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    product = torch.stack([(one[name] * other[name]).sum() for name in one if name in other]).sum()
    return float(mean_over_ranks(product / (gradient_norm(one) * gradient_norm(other)).clamp_min(1e-30)))
