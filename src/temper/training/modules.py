"""The four kinds of training as LightningModules, and how they are built from a config or a checkpoint."""

import pickle
from pathlib import Path
from typing import Any, final

import torch
import torch.nn.functional as F
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from temper.attacks import NoAttack
from temper.config.cell import Kind
from temper.config.composed import penalty_specs, plain
from temper.config.errors import ConfigError, explain_arguments, first_line
from temper.config.instantiate import build
from temper.config.types import NonNegative
from temper.data import Batch
from temper.models import Compiler, Network
from temper.penalties import Penalties, Penalty, Weighted
from temper.penalties.penalty import has_term
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

EXECUTION = ("compile", "channels_last")  # model settings that change its execution, not the model


def build_module(config: DictConfig) -> Classifier:
    """Build the module of a config's kind of training, with weights drawn from the run's seed.

    Args:
        config: the run's config.

    Raises:
        ConfigError: a value is wrong, or a penalty would have no effect on this model.
    """
    attack = build(config, "attack", without=("name",))
    penalties = build_penalties(config)
    rekey(config.seed, "weights")
    try:
        net = penalties.prepare(build(config, "model", without=EXECUTION))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    kind = Kind.of(attacked=not isinstance(attack, NoAttack), penalized=len(penalties) > 0)
    return CLASSIFIERS[kind](
        net=net,
        attack=attack,
        penalties=penalties,
        optimizer=build(config, "optimizer"),
        schedule=build(config, "schedule"),
        validation=build(config, "validation", without=("name",)),
        validation_name=config.validation.name,
        classes=config.data.classes,
        macro_average=config.data.get("class_weights") is not None,
        seed=config.seed,
        config=plain(config),
        compiler=Compiler.of(config.model.get("compile")),
        channels_last=config.model.get("channels_last", False),
    )


def build_penalties(config: DictConfig) -> Penalties:
    """Build all penalties of a config.

    The root key `strength` scales the weight, absolute or relative, of penalties that add a term to the loss, and the magnitude
    of the others.

    Args:
        config: the run's config.

    Raises:
        ConfigError: a value is wrong, or the penalties are incompatible.
    """
    strength = _number("strength", config.strength)
    members: dict[str, Weighted] = {}
    for name, spec in penalty_specs(config.penalty).items():
        key = f"penalty.{name}"
        target = _penalty_class(key, spec)
        arguments: dict[str, Any] = {}
        weight = _number(f"{key}.weight", spec.get("weight", 1.0))
        relative = None if spec.get("relative") is None else _number(f"{key}.relative", spec.relative)
        if target.magnitude is None:
            weight, relative = weight * strength, None if relative is None else relative * strength
        elif target.magnitude in spec:
            arguments[target.magnitude] = _number(f"{key}.{target.magnitude}", spec[target.magnitude]) * strength
        if relative is not None:
            weight = 0.0  # set from the measured gradient ratio
        penalty = build(config, key, without=("weight", "relative") if has_term(target) else (), **arguments)
        members[name] = Weighted(penalty, weight, relative or None)
    try:
        return Penalties(members)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _penalty_class(key: str, spec: DictConfig) -> type[Penalty]:
    try:
        target = get_class(spec["_target_"])
    except Exception as error:
        raise ConfigError(f"{key}._target_: {first_line(error)}") from error
    if not issubclass(target, Penalty):
        raise ConfigError(f"{key}._target_={spec['_target_']}: not a subclass of temper.penalties.Penalty. Make it one.")
    return target


def _number(key: str, value: Any) -> float:
    try:
        return TypeAdapter(NonNegative).validate_python(value)
    except ValidationError as error:
        raise ConfigError("\n".join(explain_arguments(error, key))) from None


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
        module = build_module(OmegaConf.create(state["config"]))
        module.load_state_dict(state["state_dict"])
    except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{checkpoint} is damaged or not a Temper checkpoint ({first_line(error)})") from error
    return module.eval(), state.get("stand_in", {}).get("epoch", state["epoch"])
