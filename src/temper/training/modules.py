"""The four kinds of training as LightningModules, and how they are built from a config or a checkpoint."""

import pickle
from pathlib import Path
from typing import cast, final

import torch
import torch.nn.functional as F
from torch import Tensor

from temper.attacks import NoAttack
from temper.config.cell import Kind
from temper.config.errors import ConfigError, first_line
from temper.config.node import target_of
from temper.config.run_config import RunConfig, parse
from temper.data import Batch
from temper.models import Compiler, Network
from temper.penalties import Penalties, Penalty, Weighted
from temper.runs.seeding import rekey
from temper.training.classifier import Classifier, Loss


@final
class StandardClassifier(Classifier):
    """Standard training: loss = CE(net(x), target)."""

    def loss(self, net: Network, batch: Batch, x_adv: Tensor) -> Loss:
        return Loss(F.cross_entropy(net(batch.x).float(), batch.target))


@final
class AdversarialClassifier(Classifier):
    """Adversarial training: loss = risk(attack)."""

    def loss(self, net: Network, batch: Batch, x_adv: Tensor) -> Loss:
        return Loss(self.attack.risk(net, batch, x_adv).mean())


@final
class RegularizedClassifier(Classifier):
    """Regularized training: loss = CE(net(x), target) + penalties."""

    def loss(self, net: Network, batch: Batch, x_adv: Tensor) -> Loss:
        return Loss(F.cross_entropy(net(batch.x).float(), batch.target), self.terms(net, batch, batch.x))


@final
class CombinedClassifier(Classifier):
    """Combined training: loss = risk(attack) + penalties."""

    def loss(self, net: Network, batch: Batch, x_adv: Tensor) -> Loss:
        return Loss(self.attack.risk(net, batch, x_adv).mean(), self.terms(net, batch, x_adv))


CLASSIFIERS: dict[Kind, type[Classifier]] = {
    Kind.STANDARD: StandardClassifier,
    Kind.ADVERSARIAL: AdversarialClassifier,
    Kind.REGULARIZED: RegularizedClassifier,
    Kind.COMBINED: CombinedClassifier,
}


def build_module(run: RunConfig) -> Classifier:
    """Build the module of a run's kind of training, with weights drawn from its seed.

    Args:
        run: the run.

    Raises:
        ConfigError: a value is wrong, or a penalty would have no effect on this model.
    """
    attack = run.attack.build()
    penalties = build_penalties(run)
    rekey(run.seed, "weights")
    try:
        net = penalties.prepare(run.model.build())
    except ValueError as error:
        raise ConfigError(str(error)) from error
    kind = Kind.of(attacked=not isinstance(attack, NoAttack), penalized=len(penalties) > 0)
    return CLASSIFIERS[kind](
        net=net,
        attack=attack,
        penalties=penalties,
        optimizer=run.optimizer.build(),
        schedule=run.schedule.build(),
        validation=run.validation.build(),
        validation_name=run.validation.name,
        classes=run.data.classes,
        macro_average=run.data.get("class_weights") is not None,
        seed=run.seed,
        config=run.plain(),
        compiler=Compiler.of(run.model.get("compile")),
        channels_last=run.model.get("channels_last", False),
    )


def build_penalties(run: RunConfig) -> Penalties:
    """Build all penalties of a run.

    The root key `strength` scales the weight, absolute or relative, of penalties that add a term to the loss, and the magnitude
    of the others.

    Args:
        run: the run.

    Raises:
        ConfigError: a value is wrong, or the penalties are incompatible.
    """
    members: dict[str, Weighted] = {}
    for name, node in run.penalties.items():
        magnitude = cast(type[Penalty], target_of(node.target, node.key)).magnitude
        weight, relative = node.get("weight", 1.0), node.get("relative")
        if magnitude is None:
            weight, relative = weight * run.strength, None if relative is None else relative * run.strength
        elif magnitude in node.arguments:
            node = node.with_arguments(**{magnitude: node.arguments[magnitude] * run.strength})
        if relative is not None:
            weight = 0.0  # set from the measured gradient ratio
        members[name] = Weighted(node.build(), weight, relative or None)
    try:
        return Penalties(members)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def load(checkpoint: Path | str) -> tuple[Classifier, int]:
    """Load the trained module of a checkpoint.

    Args:
        checkpoint: path of the checkpoint.

    Returns:
        The module in eval mode on the CPU, and the epoch of its weights, from 0.

    Raises:
        ValueError: the file is missing, damaged, or not a Temper checkpoint.
    """
    if not Path(checkpoint).is_file():
        raise ValueError(
            f"checkpoint {checkpoint} does not exist. Only those in keep_checkpoints are kept; move this folder away to retrain"
        )
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        module = build_module(parse(state["config"]))
        module.load_state_dict(state["state_dict"])
    except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{checkpoint} is damaged or not a Temper checkpoint ({first_line(error)})") from error
    return module.eval(), state.get("stand_in", {}).get("epoch", state["epoch"])
