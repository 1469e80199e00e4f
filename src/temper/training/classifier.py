"""What the four kinds of training share: steps, validation, optimizer."""

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
from temper.attacks.losses import Climb, View, cross_entropy
from temper.attacks.network_state import probing
from temper.attacks.threat import Ball
from temper.data import Batch
from temper.models import Compiler, Network, StepNetwork, lay_out, still_statistics
from temper.penalties import Penalties, Ratios
from temper.runs.seeding import rekey
from temper.schedules import Schedule
from temper.training.epoch_losses import EpochLosses


class Loss(NamedTuple):
    """What one batch is trained on: the risk, averaged over the examples, and the terms of penalties, before their weights,
    apart from it."""

    risk: Tensor
    terms: Mapping[str, Tensor] = {}


class Classifier(pl.LightningModule, ABC):
    """Everything that the four kinds share: steps, validation, optimizer.

    Args:
        net: the network, as its penalties prepared it.
        attack: what the network is trained against.
        penalties: what moderates it.
        optimizer: takes parameters.
        schedule: factor of the learning rate, given the share of training that is done.
        validation: the attack that every epoch is validated by, whatever the training attack.
        validation_name: its metric is `val/<name>`.
        classes: number of logits.
        by_class: whether accuracies of the validation are means over classes, for data of which most is of one class.
        seed: of the run; all randomness is keyed by it.
        config: plain values from which `load` rebuilds this module.
        compiler: of the network and of the steps of attacks, in training; None: they are not compiled.
        channels_last: the layout of convolutions in training; None: on a GPU.
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
        by_class: bool = False,
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
        self.compiled_rows = 0  # examples that compiled steps have passed backward, where no hook sees them
        self.ratios = Ratios(penalties)
        self.measuring = False  # passes that training itself does not need
        self.losses = EpochLosses(self)
        accuracies: tuple[str, ...] = ("clean", validation_name)
        # The single step shows when training has overfitted to one (Wong et al. 2020).
        self.single_step: Threat | None = getattr(validation, "threat", None)
        accuracies += () if self.single_step is None or validation_name == "fgsm" else ("fgsm",)
        means = ("loss", f"{validation_name}_loss", "zero_gradients")
        average: Literal["macro", "micro"] = "macro" if by_class else "micro"
        self.val_metrics = nn.ModuleDict(
            {name: MulticlassAccuracy(classes, average=average, validate_args=False) for name in accuracies}
            | {name: MeanMetric() for name in means}
        )

    @abstractmethod
    def loss(self, net: Network, batch: Batch, x_adv: Tensor) -> Loss:
        """The equation of this kind of training."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def setup(self, stage: str) -> None:
        self.net.observe(self.trainer.datamodule.split("train").x)  # type: ignore[attr-defined]

    def configure_model(self) -> None:
        # Before several devices wrap the network, whose gradients they keep in the layout of its weights.
        lay_out(self.net, self.channels_last, self.trainer.strategy.root_device)

    def on_fit_start(self) -> None:
        if self.compiler is not None:
            self.compiler.network(self.net)
            compiled = self.compiler.function(take_step)

            def step(climb: Climb, ball: Ball, z: Tensor, size: float | Tensor, mask: Tensor | None) -> tuple[Tensor, View]:
                self.compiled_rows += len(z)
                # As a tensor: a number would be compiled anew for every value that it takes.
                return compiled(climb, ball, z, z.new_full((), float(size)), mask)

            self.attack.step_by(step)
            self.validation.step_by(step)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self._begin_graphs()

    def on_validation_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._begin_graphs()

    def _begin_graphs(self) -> None:
        if self.compiler is not None and self.compiler.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()  # what the batch before has left is not needed any more

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.objective(batch, batch_idx)
        if self.ratios.due(batch_idx):
            self.measuring = True
            self.ratios.note(*self.gradients(loss))
            self.measuring = False
        penalty = self.penalties.weighted(loss.terms)
        # Nothing is logged within an epoch: that would wait for the device at every step.
        self.losses.note(len(batch), loss.risk, penalty)
        total = loss.risk if penalty is None else loss.risk + penalty
        if batch.share != 1:
            total = batch.share * total
        # Several devices wait for the gradient of every parameter, that of a head whose weight is 0 at the moment too.
        idle = self.penalties.idle(loss.terms)
        return total + 0 * torch.stack([parameter.sum() for parameter in idle]).sum() if idle else total

    def objective(self, batch: Batch, batch_idx: int) -> Loss:
        """What one batch is trained on."""
        # Each purpose has its own key, so that a draw more in one never shifts another: cells stay paired.
        step = (self.global_rank, self.current_epoch, batch_idx)
        done = min(self.global_step / self.total_steps, 1.0)
        # An attack that replays its batches meets the same inputs again.
        once = (self.seed, self.global_rank, self.current_epoch, batch_idx // self.attack.replays)
        self.penalties.begin(self.global_step, done, key=once)
        batch = self.penalties.transform(batch)
        self.attack.begin(self.global_step, done)
        rekey(self.seed, "attack", *step)
        x_adv = self.attack.perturb(self.penalties.exposed(self.net, batch), batch)
        shift = self.penalties.shift(self.net, lambda net: self.attack.risk(net, batch, x_adv.detach()).mean())
        rekey(self.seed, "network", *step)
        return self.loss(StepNetwork(self.net, shift) if len(self.penalties) else self.net, batch, x_adv)

    def gradients(self, loss: Loss) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        """Of the risk, and of each term before its weight, by the names of the network's parameters."""
        trained = {name: parameter for name, parameter in self.net.named_parameters() if parameter.requires_grad}

        def gradient(value: Tensor) -> dict[str, Tensor]:
            found = torch.autograd.grad(value, list(trained.values()), retain_graph=True, allow_unused=True)
            return {name: g for name, g in zip(trained, found, strict=True) if g is not None}

        return gradient(loss.risk), {name: gradient(term) for name, term in loss.terms.items()}

    def on_after_backward(self) -> None:
        self.attack.after_backward()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.penalties.before_step(self.net, optimizer.param_groups[0]["lr"])

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        super().optimizer_step(*arguments, **named)
        self.penalties.after_step(self.net)

    def on_validation_epoch_start(self) -> None:
        """Log the training epoch's means.

        Raises:
            FloatingPointError: the loss, or a weight, is no longer finite; this epoch is not saved then.
        """
        if means := self.losses.means(self._over_ranks):
            self.log_dict({**means, **self.ratios.metrics(), **self.penalties.metrics()})

    def _over_ranks(self, part: Tensor) -> Tensor:
        """The sum of what every rank has; on one device the same tensor."""
        return cast(Tensor, self.trainer.strategy.reduce(part, reduce_op="sum"))

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
            threat, moved = threat.on(batch), gradient if batch.mask is None else gradient * batch.mask
            single = threat.settle(threat.project(z + threat.eps * threat.direction(moved, z), z), z)
            metrics["fgsm"].update(self.net(single), batch.y)
        metrics["loss"].update(clean.loss)
        metrics[f"{name}_loss"].update(robust.loss)
        metrics["zero_gradients"].update(_share_of_zeros(gradient, batch.mask))

    def on_validation_epoch_end(self) -> None:
        for name, metric in cast(dict[str, Metric], self.val_metrics).items():
            self.log(f"val/{name}", metric.compute())
            metric.reset()

    def terms(self, net: Network, batch: Batch, x_adv: Tensor) -> dict[str, Tensor]:
        """What penalties add to the loss, before their weights."""
        with still_statistics(self.net):
            return self.penalties.terms(net, batch, x_adv)

    @property
    def monitor(self) -> str:
        """What best.ckpt is chosen by: validation accuracy, robust where an attack is trained against, clean where not. With
        weights of classes it is the mean over classes."""
        return "val/clean" if isinstance(self.attack, NoAttack) else f"val/{self.validation_name}"

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training."""
        # From the config, not `trainer.estimated_stepping_batches`: that builds the loader too early for an exact resume.
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
        """A checkpoint of another run, which `ckpt_path` may name, brings what both have; the learning rate is the config's."""
        own, loaded = self.state_dict(), checkpoint["state_dict"]
        for name in own.keys() ^ loaded.keys():
            if name.startswith("net."):
                continue  # another network is a mistake, and Lightning says so
            if name in own:
                loaded[name] = own[name]
            else:
                del loaded[name]
        before, now = ((config or {}).get("optimizer", {}).get("lr") for config in (checkpoint.get("config"), self.config))
        if before and now is not None and now != before:
            # Optimizer and schedule would go on at the rate that they were saved with.
            for group in (group for optimizer in checkpoint["optimizer_states"] for group in optimizer["param_groups"]):
                group["lr"], group["initial_lr"] = group["lr"] * now / before, now
            for schedule in checkpoint["lr_schedulers"]:
                schedule["base_lrs"] = [now] * len(schedule["base_lrs"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config


def _share_of_zeros(gradient: Tensor, mask: Tensor | None) -> Tensor:
    """Of each example's gradient, (B, ...) -> (B,), where the adversary may change the input."""
    counted = torch.ones_like(gradient) if mask is None else mask.expand_as(gradient)
    zeros = (gradient == 0) * counted
    return zeros.flatten(1).sum(1) / counted.flatten(1).sum(1).clamp_min(1)
