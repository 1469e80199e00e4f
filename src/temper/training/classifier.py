"""Base class of the four kinds of training: training and validation steps, optimizer, checkpoint hooks."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from temper.attacks import Attack, NoAttack, Threat
from temper.attacks.gradient_step import input_gradient, take_step
from temper.attacks.losses import LossFn, LossOutput, cross_entropy
from temper.attacks.network_state import probing
from temper.attacks.threat import Ball
from temper.data import Batch
from temper.models import Compiler, Network, StepNetwork, lay_out, still_statistics
from temper.penalties import Penalties, Ratios
from temper.runs.seeding import rekey
from temper.schedules import Schedule
from temper.training.epoch_losses import EpochLosses


class Loss(NamedTuple):
    """Loss of one batch.

    Attributes:
        risk: scalar, the mean over the examples.
        terms: by penalty, its scalar term before its weight.
    """

    risk: Tensor
    terms: Mapping[str, Tensor] = {}


class Classifier(pl.LightningModule, ABC):
    """LightningModule with everything that the four kinds of training share; subclasses implement `loss`.

    Args:
        net: the network, as prepared by its penalties.
        attack: the training attack.
        penalties: the regularizers.
        optimizer: function from parameters to an optimizer.
        schedule: function from the fraction of training done to a factor of the learning rate.
        validation: the attack of every epoch's validation, independent of the training attack.
        validation_name: name of its metric, `val/<name>`.
        classes: number of logits.
        seed: seed of the run; all randomness is keyed by it.
        macro_average: if True, validation accuracies are means over classes, for imbalanced data.
        config: plain values from which `load` rebuilds this module.
        compiler: compiles the network and the attack steps in training; None: they are not compiled.
        channels_last: memory layout of convolutions in training; None: channels last on a GPU only.
    """

    def __init__(
        self,
        *,
        net: Network,
        attack: Attack,
        penalties: Penalties,
        optimizer: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer],
        schedule: Schedule,
        validation: Attack,
        validation_name: str,
        classes: int,
        seed: int,
        macro_average: bool = False,
        config: dict[str, Any] | None = None,
        compiler: Compiler | None = None,
        channels_last: bool | None = None,
    ) -> None:
        super().__init__()
        self.net, self.attack, self.penalties = net, attack, penalties
        self.optimizer, self.schedule = optimizer, schedule
        self.validation, self.validation_name = validation, validation_name
        self.seed, self.config = seed, config
        self.compiler, self.channels_last = compiler, channels_last
        self.compiled_rows = 0  # examples in backward passes of compiled steps, which no hook sees
        self.ratios = Ratios(penalties)
        self.measuring = False  # True during backward passes that only measure gradient ratios
        self.losses = EpochLosses(self)
        accuracies: tuple[str, ...] = ("clean", validation_name)
        # FGSM accuracy reveals catastrophic overfitting to single-step attacks (Wong et al. 2020).
        self.single_step: Threat | None = getattr(validation, "threat", None)
        accuracies += () if self.single_step is None or validation_name == "fgsm" else ("fgsm",)
        means = ("loss", f"{validation_name}_loss", "zero_gradients")
        average: Literal["macro", "micro"] = "macro" if macro_average else "micro"
        self.val_metrics = nn.ModuleDict(
            {name: MulticlassAccuracy(classes, average=average, validate_args=False) for name in accuracies}
            | {name: MeanMetric() for name in means}
        )

    @abstractmethod
    def loss(self, net: Network, batch: Batch, x_adv: Tensor) -> Loss:
        """Return the loss of a batch, by the equation of this kind of training.

        Args:
            net: the network of this step.
            batch: the batch.
            x_adv: adversarial inputs, shaped as `net.lift(batch.x)`.
        """

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def setup(self, stage: str) -> None:
        self.net.observe(self.trainer.datamodule.split("train").x)  # type: ignore[attr-defined]

    def configure_model(self) -> None:
        # Distributed training wraps the network after this hook, and its gradient buffers copy the layout of the weights.
        lay_out(self.net, self.channels_last, self.trainer.strategy.root_device)

    def on_fit_start(self) -> None:
        if self.compiler is not None:
            self.compiler.compile_network(self.net)
            compiled = self.compiler.compile_function(take_step)

            def step(
                climb: LossFn, ball: Ball, z: Tensor, size: float | Tensor, mask: Tensor | None
            ) -> tuple[Tensor, LossOutput]:
                self.compiled_rows += len(z)
                # A tensor, since a Python number would trigger a recompilation for every new value.
                return compiled(climb, ball, z, z.new_full((), float(size)), mask)

            self.attack.set_step(step)
            self.validation.set_step(step)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self._mark_graph_step()

    def on_validation_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._mark_graph_step()

    def _mark_graph_step(self) -> None:
        if self.compiler is not None and self.compiler.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()  # outputs of the previous batch may be overwritten

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.objective(batch, batch_idx)
        if self.ratios.due(batch_idx):
            self.measuring = True
            self.ratios.note(*self.gradients(loss))
            self.measuring = False
        penalty = self.penalties.weighted_sum(loss.terms)
        # Nothing is logged within an epoch: logging would wait for the device at every step.
        self.losses.update(len(batch), loss.risk, penalty)
        total = loss.risk if penalty is None else loss.risk + penalty
        if batch.rank_weight != 1:
            total = batch.rank_weight * total
        # Distributed training waits for the gradient of every parameter, including heads whose weight is 0 at this step.
        idle = self.penalties.unused_parameters(loss.terms)
        return total + 0 * torch.stack([parameter.sum() for parameter in idle]).sum() if idle else total

    def objective(self, batch: Batch, batch_idx: int) -> Loss:
        """Return the loss of a training batch: transform it, attack it, and evaluate risk and penalty terms.

        Args:
            batch: the batch.
            batch_idx: its number in the epoch.
        """
        # Each purpose has its own key: an extra draw for one never shifts another, so cells stay paired.
        step = (self.global_rank, self.current_epoch, batch_idx)
        progress = min(self.global_step / self.total_steps, 1.0)
        # An attack that replays its batches must see the same transformed inputs again.
        transform_key = (self.seed, self.global_rank, self.current_epoch, batch_idx // self.attack.replays)
        self.penalties.begin(self.global_step, progress, key=transform_key)
        batch = self.penalties.transform(batch)
        self.attack.begin(self.global_step, progress)
        rekey(self.seed, "attack", *step)
        x_adv = self.attack.perturb(self.penalties.attacked_network(self.net, batch), batch)
        shift = self.penalties.shift(self.net, lambda net: self.attack.risk(net, batch, x_adv.detach()).mean())
        rekey(self.seed, "network", *step)
        return self.loss(StepNetwork(self.net, shift) if len(self.penalties) else self.net, batch, x_adv)

    def gradients(self, loss: Loss) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        """Return the gradients of the risk and of each penalty term before its weight, by parameter name.

        Args:
            loss: the loss of a batch.
        """
        trained = {name: parameter for name, parameter in self.net.named_parameters() if parameter.requires_grad}

        def gradient(value: Tensor) -> dict[str, Tensor]:
            gradients = torch.autograd.grad(value, list(trained.values()), retain_graph=True, allow_unused=True)
            return {name: g for name, g in zip(trained, gradients, strict=True) if g is not None}

        return gradient(loss.risk), {name: gradient(term) for name, term in loss.terms.items()}

    def on_after_backward(self) -> None:
        self.attack.after_backward()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.penalties.before_step(self.net, optimizer.param_groups[0]["lr"])

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        super().optimizer_step(*arguments, **named)
        self.penalties.after_step(self.net)

    def on_validation_epoch_start(self) -> None:
        """Log the means of the training epoch.

        Raises:
            FloatingPointError: the loss or a weight is no longer finite; this epoch is then not saved.
        """
        if means := self.losses.means(self._sum_over_ranks):
            self.log_dict({**means, **self.ratios.metrics(), **self.penalties.metrics()})

    def _sum_over_ranks(self, value: Tensor) -> Tensor:
        """Return the sum over ranks; on one device, the tensor itself."""
        return cast(Tensor, self.trainer.strategy.reduce(value, reduce_op="sum"))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        rekey(self.seed, "validation", batch_idx)
        x_adv = self.validation.perturb(self.net, batch)
        z = self.net.lift(batch.x).detach()
        with probing(self.net, "eval"):
            gradient, clean = input_gradient(cross_entropy(self.net, batch.y), z)
        robust = cross_entropy(self.net, batch.y)(x_adv)
        name, metrics = self.validation_name, cast(dict[str, Metric], self.val_metrics)
        metrics["clean"].update(clean.logits, batch.y)
        metrics[name].update(robust.logits, batch.y)
        if "fgsm" in metrics and name != "fgsm" and (threat := self.single_step) is not None:
            threat, moved = threat.for_batch(batch), gradient if batch.mask is None else gradient * batch.mask
            single = threat.round_to_domain(threat.project(z + threat.eps * threat.direction(moved, z), z), z)
            metrics["fgsm"].update(self.net(single), batch.y)
        metrics["loss"].update(clean.loss)
        metrics[f"{name}_loss"].update(robust.loss)
        metrics["zero_gradients"].update(_zero_fraction(gradient, batch.mask))

    def on_validation_epoch_end(self) -> None:
        for name, metric in cast(dict[str, Metric], self.val_metrics).items():
            self.log(f"val/{name}", metric.compute())
            metric.reset()

    def terms(self, net: Network, batch: Batch, x_adv: Tensor) -> dict[str, Tensor]:
        """Return the penalties' terms before their weights, by penalty.

        Args:
            net: the network of this step.
            batch: the batch.
            x_adv: inputs at which the terms are evaluated.
        """
        with still_statistics(self.net):
            return self.penalties.terms(net, batch, x_adv)

    @property
    def monitor(self) -> str:
        """Metric that selects best.ckpt: validation accuracy, robust for adversarial training, else clean.

        With `macro_average` it is the mean over classes.
        """
        return "val/clean" if isinstance(self.attack, NoAttack) else f"val/{self.validation_name}"

    @property
    def total_steps(self) -> int:
        """Number of optimizer steps of the whole training."""
        # `trainer.estimated_stepping_batches` would build the loader too early for an exact resume.
        trainer = self.trainer
        batches, limit = trainer.datamodule.steps_per_epoch, trainer.limit_train_batches  # type: ignore[attr-defined]
        if limit is not None:
            batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        return max(1, (trainer.max_epochs or 1) * math.ceil(batches / trainer.accumulate_grad_batches))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        total = self.total_steps
        optimizer = self.optimizer(parameter for parameter in self.parameters() if parameter.requires_grad)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.schedule(min((step + 0.5) / total, 1.0)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adapt a checkpoint of another run, as `ckpt_path` may name: load what both have, at this config's learning rate."""
        state, loaded = self.state_dict(), checkpoint["state_dict"]
        for name in state.keys() ^ loaded.keys():
            if name.startswith("net."):
                continue  # Lightning raises an error for a different network
            if name in state:
                loaded[name] = state[name]
            else:
                del loaded[name]
        before, now = ((config or {}).get("optimizer", {}).get("lr") for config in (checkpoint.get("config"), self.config))
        if before and now is not None and now != before:
            # Optimizer and schedule would otherwise continue at the saved rate.
            for group in (group for optimizer in checkpoint["optimizer_states"] for group in optimizer["param_groups"]):
                group["lr"], group["initial_lr"] = group["lr"] * now / before, now
            for schedule in checkpoint["lr_schedulers"]:
                schedule["base_lrs"] = [now] * len(schedule["base_lrs"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config


def _zero_fraction(gradient: Tensor, mask: Tensor | None) -> Tensor:
    """Return the fraction of zeros in each example's gradient, (B, ...) -> (B,), over the features that the mask allows."""
    counted = torch.ones_like(gradient) if mask is None else mask.expand_as(gradient)
    zeros = (gradient == 0) * counted
    return zeros.flatten(1).sum(1) / counted.flatten(1).sum(1).clamp_min(1)
