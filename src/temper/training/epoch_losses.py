"""The losses of a training epoch: seen to be finite while it runs, averaged at its end."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from temper.penalties.gradient_ratios import mean_over_ranks

CHECKED_EVERY = 100  # batches: each look waits for the device


class _Batch(NamedTuple):
    examples: int
    risk: Tensor
    penalty: Tensor | None  # the weighted sum

    @property
    def loss(self) -> Tensor:
        return self.risk if self.penalty is None else self.risk + self.penalty


class EpochLosses:
    """Those of each batch, kept on the device.

    Args:
        module: that is trained.
    """

    def __init__(self, module: pl.LightningModule) -> None:
        self._module = module
        self._batches: list[_Batch] = []
        self._began = 0  # optimizer steps before this epoch
        self._last: float | None = None  # the last loss that was finite, as far as it has been looked at

    def note(self, examples: int, risk: Tensor, penalty: Tensor | None) -> None:
        """Of one more batch.

        Raises:
            FloatingPointError: a loss before it is not finite.
        """
        if not self._batches:
            self._began = self._module.global_step
        elif len(self._batches) % CHECKED_EVERY == 0:
            self._check()
        self._batches.append(_Batch(examples, risk.detach(), None if penalty is None else penalty.detach()))

    def means(self, over_ranks: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Over the examples of the epoch, the penalties apart from the risk, so that curves of different cells compare; none
        where no batch was trained on. The next epoch begins.

        Args:
            over_ranks: the sum of what every rank has.

        Raises:
            FloatingPointError: a loss, or a weight, is not finite.
        """
        if not self._batches:
            return {}
        self._check()
        self._check_weights()
        counts = torch.tensor([batch.examples for batch in self._batches], device=self._module.device, dtype=torch.float32)
        share = counts / over_ranks(counts.sum())
        risk = over_ranks((share * torch.stack([batch.risk for batch in self._batches])).sum())
        terms = [torch.zeros_like(risk) if batch.penalty is None else batch.penalty for batch in self._batches]
        penalty = over_ranks((share * torch.stack(terms)).sum())
        self._batches.clear()
        return {"train/risk": risk, "train/penalty": penalty, "train/loss": risk + penalty}

    def _check(self) -> None:
        """Wait for the device, and look at the losses since the last look; several devices come to the same conclusion."""
        first = (len(self._batches) - 1) // CHECKED_EVERY * CHECKED_EVERY
        losses = torch.stack([batch.loss for batch in self._batches[first:]])
        for number, loss in enumerate(mean_over_ranks(losses).tolist(), start=first):
            if not math.isfinite(loss):
                _, risk, penalty = self._batches[number]
                found = f"train/risk is {float(risk):g}, train/penalty {0.0 if penalty is None else float(penalty):g}"
                raise self._diverged(self._began + number // self._module.trainer.accumulate_grad_batches, found)
            self._last = loss

    def _check_weights(self) -> None:
        module = self._module
        finite = torch.stack([parameter.detach().isfinite().all() for parameter in module.parameters()]).all()
        if not bool(finite):
            raise self._diverged(module.global_step, "weights are no longer finite")

    def _diverged(self, step: int, found: str) -> FloatingPointError:
        module = self._module
        before = "" if self._last is None else f" after a loss of {self._last:.4g}"
        saved, start = "nothing was saved", ""
        if module.current_epoch:
            saved = f"checkpoints are those of epoch {module.current_epoch - 1} and before"
            start = f"; to go on from there: ckpt_path={module.trainer.default_root_dir}/checkpoints/last.ckpt"
        return FloatingPointError(
            f"training diverged in epoch {module.current_epoch} at step {step}{before}: {found}; {saved}. It would do so "
            f"again: lower optimizer.lr or strength, or set trainer.gradient_clip_val{start}"
        )
