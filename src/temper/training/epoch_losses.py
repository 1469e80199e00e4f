"""Losses of a training epoch: checked for finiteness while it runs, averaged at its end."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from temper.penalties.gradient_ratios import mean_over_ranks

CHECK_INTERVAL = 100  # batches; each check waits for the device


class _Batch(NamedTuple):
    examples: int
    risk: Tensor
    penalty: Tensor | None  # weighted sum of all terms

    @property
    def loss(self) -> Tensor:
        return self.risk if self.penalty is None else self.risk + self.penalty


class EpochLosses:
    """Losses of every batch of an epoch, kept on the device.

    Args:
        module: the module being trained.
    """

    def __init__(self, module: pl.LightningModule) -> None:
        self._module = module
        self._batches: list[_Batch] = []
        self._first_step = 0  # optimizer steps before this epoch
        self._last_finite: float | None = None  # the last finite loss that a check has seen

    def update(self, examples: int, risk: Tensor, penalty: Tensor | None) -> None:
        """Add the losses of one batch.

        Args:
            examples: number of examples in the batch.
            risk: scalar, mean over the batch.
            penalty: scalar, weighted sum of the terms; None without penalties.

        Raises:
            FloatingPointError: the loss of an earlier batch is not finite.
        """
        if not self._batches:
            self._first_step = self._module.global_step
        elif len(self._batches) % CHECK_INTERVAL == 0:
            self._check()
        self._batches.append(_Batch(examples, risk.detach(), None if penalty is None else penalty.detach()))

    def means(self, sum_over_ranks: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Return the means over the epoch's examples and start the next epoch.

        Risk and penalty are separate, so that curves of different cells are comparable.

        Args:
            sum_over_ranks: function that sums a tensor over all ranks.

        Returns:
            `train/risk`, `train/penalty` and `train/loss`; empty if there was no batch.

        Raises:
            FloatingPointError: a loss or a weight is not finite.
        """
        if not self._batches:
            return {}
        self._check()
        self._check_weights()
        counts = torch.tensor([batch.examples for batch in self._batches], device=self._module.device, dtype=torch.float32)
        fractions = counts / sum_over_ranks(counts.sum())
        risk = sum_over_ranks((fractions * torch.stack([batch.risk for batch in self._batches])).sum())
        terms = [torch.zeros_like(risk) if batch.penalty is None else batch.penalty for batch in self._batches]
        penalty = sum_over_ranks((fractions * torch.stack(terms)).sum())
        self._batches.clear()
        return {"train/risk": risk, "train/penalty": penalty, "train/loss": risk + penalty}

    def _check(self) -> None:
        """Wait for the device and check the losses since the last check; all ranks reach the same conclusion."""
        first = (len(self._batches) - 1) // CHECK_INTERVAL * CHECK_INTERVAL
        losses = torch.stack([batch.loss for batch in self._batches[first:]])
        for number, loss in enumerate(mean_over_ranks(losses).tolist(), start=first):
            if not math.isfinite(loss):
                _, risk, penalty = self._batches[number]
                problem = f"train/risk is {float(risk):g}, train/penalty is {0.0 if penalty is None else float(penalty):g}"
                raise self._diverged(self._first_step + number // self._module.trainer.accumulate_grad_batches, problem)
            self._last_finite = loss

    def _check_weights(self) -> None:
        module = self._module
        finite = torch.stack([parameter.detach().isfinite().all() for parameter in module.parameters()]).all()
        if not bool(finite):
            raise self._diverged(module.global_step, "weights are not finite")

    def _diverged(self, step: int, problem: str) -> FloatingPointError:
        module = self._module
        last = "" if self._last_finite is None else f" (last finite loss {self._last_finite:.4g})"
        saved, restart = "No checkpoint was saved", ""
        if module.current_epoch:
            saved = f"The last checkpoint is of epoch {module.current_epoch - 1}"
            restart = f" and continue with ckpt_path={module.trainer.default_root_dir}/checkpoints/last.ckpt"
        return FloatingPointError(
            f"training diverged at epoch {module.current_epoch}, step {step}{last}: {problem}. {saved}. Resuming unchanged "
            f"will diverge again: lower optimizer.lr or strength, or set trainer.gradient_clip_val{restart}"
        )
