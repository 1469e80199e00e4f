"""The four kinds of training, side by side: four final modules on one abstract base."""

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
from temper.config.errors import ConfigError
from temper.config.instantiate import build, explain_arguments, first_line
from temper.config.types import NonNegative
from temper.data import Batch
from temper.models import Compiler, Network
from temper.penalties import Penalties, Penalty, Weighted
from temper.penalties.penalty import adds_a_term
from temper.runs.seeding import rekey
from temper.training.classifier import Classifier, Loss


@final
class StandardClassifier(Classifier):
    """loss = CE(net(x), target)"""

    def loss(self, net: Network, batch: Batch, x_adv: Tensor) -> Loss:
        return Loss(F.cross_entropy(net(batch.x).float(), batch.target))


@final
class AdversarialClassifier(Classifier):
    """loss = risk(attack)"""

    def loss(self, net: Network, batch: Batch, x_adv: Tensor) -> Loss:
        return Loss(self.attack.risk(net, batch, x_adv).mean())


@final
class RegularizedClassifier(Classifier):
    """loss = CE(net(x), target) + penalties"""

    def loss(self, net: Network, batch: Batch, x_adv: Tensor) -> Loss:
        return Loss(F.cross_entropy(net(batch.x).float(), batch.target), self.terms(net, batch, batch.x))


@final
class CombinedClassifier(Classifier):
    """loss = risk(attack) + penalties"""

    def loss(self, net: Network, batch: Batch, x_adv: Tensor) -> Loss:
        return Loss(self.attack.risk(net, batch, x_adv).mean(), self.terms(net, batch, x_adv))


CLASSIFIERS: dict[Kind, type[Classifier]] = {
    Kind.STANDARD: StandardClassifier,
    Kind.ADVERSARIAL: AdversarialClassifier,
    Kind.REGULARIZED: RegularizedClassifier,
    Kind.COMBINED: CombinedClassifier,
}


EXECUTION = ("compile", "channels_last")  # settings of a model that say how it is run, not what it is


def build_module(config: DictConfig) -> Classifier:
    """The module of a config's quadrant, its weights drawn from the run's seed.

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
        by_class=config.data.get("class_weights") is not None,
        seed=config.seed,
        config=plain(config),
        compiler=Compiler.of(config.model.get("compile")),
        channels_last=config.model.get("channels_last", False),
    )


def load(checkpoint: Path | str) -> tuple[Classifier, int]:
    """The trained module of a checkpoint, in eval mode on the CPU, and its epoch (from 0).

    Raises:
        ValueError: the file is missing, damaged, or no checkpoint of this project.
    """
    if not Path(checkpoint).is_file():
        raise ValueError(
            f"there is no checkpoint {checkpoint}: keep_checkpoints says which are kept; to train again, move this folder away"
        )
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        module = build_module(OmegaConf.create(state["config"]))
        module.load_state_dict(state["state_dict"])
    except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{checkpoint} is damaged, or no checkpoint of temper ({reason})") from error
    return module.eval(), state.get("stand_in", {}).get("epoch", state["epoch"])


def build_penalties(config: DictConfig) -> Penalties:
    """All penalties of a config. `strength` scales the weight of each term, relative or not, and the magnitude of those that
    add none."""
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
            weight = 0.0  # until it is set
        penalty = build(config, key, without=("weight", "relative") if adds_a_term(target) else (), **arguments)
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
        raise ConfigError(f"{key}._target_: {target.__name__} is no subclass of temper.penalties.Penalty")
    return target


def _number(key: str, value: Any) -> float:
    try:
        return TypeAdapter(NonNegative).validate_python(value)
    except ValidationError as error:
        raise ConfigError("\n".join(explain_arguments(error, key))) from None
