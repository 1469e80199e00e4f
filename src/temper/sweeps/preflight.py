"""What no single object can see: settings that contradict each other, or have no effect."""

import json
import math
from collections.abc import Iterator
from typing import cast

import torch
from hydra.utils import get_class
from omegaconf import DictConfig

from temper.attacks import Attack, AutoAttack, Cascade, Evolving, Square, Threat, TorchAttack
from temper.attacks.ascent import Ascent
from temper.config.composed import penalty_specs, plain_part
from temper.config.errors import ConfigError
from temper.config.instantiate import build
from temper.config.settings import validate_settings
from temper.data import DataModule
from temper.data.loading import data_text, loaded
from temper.evaluation import Suite
from temper.evaluation.corruptions import applicable
from temper.models import Network
from temper.penalties import Penalty, Rotation
from temper.sweeps.compile_checks import validate_compiled
from temper.training.modules import Classifier, build_module, build_penalties

# Suites that were tried by this process, each on its data and architecture: cells of a grid have them in common.
_tried: set[str] = set()


def validate(config: DictConfig) -> list[str]:
    """Build everything that a run is made of, load its data, try its attacks, and compare what only fits together.

    Returns:
        Warnings: settings that are allowed and probably not meant.

    Raises:
        ConfigError: the run would fail, or measure something else than it says.
        DataError: the data is missing or unfit.
    """
    validate_settings(config)
    module, suite, data = build_module(config), Suite.of(config), loaded(data_text(config))
    try:
        module.optimizer(module.parameters())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer: {error}") from error
    build(config, "trainer", logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    if config.optimizer.get("weight_decay"):
        raise ConfigError(
            f"optimizer.weight_decay is {config.optimizer.weight_decay}: it would regularize every cell in silence, that of "
            "penalty=none too; leave it at 0 and use penalty=weight_decay (or penalty=l2, the same for SGD)"
        )
    try:
        module.net.observe(data.split("train").x)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    _embeds(module.net, data)
    training_threat: Threat | None = getattr(module.attack, "threat", None)
    for threat in getattr(module.attack, "threats", [training_threat]):
        if threat is not None:
            _fits("attack.threat", threat, data)
    for key, part in _parts("attack", module.attack):
        if part.evaluation_only:
            raise ConfigError(f"{key}: {type(part).__name__} is for evaluation alone")
    _try("attack", module.attack, module.net, data)
    _validate_stopping(config, module)
    if isinstance(module.attack, Evolving):
        for member in module.attack.members:
            _try("attack.attacks", cast(Attack, member), module.net, data, several=False)
    _try_penalties(module, data)
    if module.compiler is not None:
        validate_compiled(config, module, data)
    if config.evaluation.checkpoints:
        setting = data_text(config) + json.dumps(plain_part(config, "evaluation")) + repr(module.net)
        if setting not in _tried:
            validate_suite(suite, module.net, data)
            _tried.add(setting)
    return [*_without_effect(config), *_weaker(config, module.attack, suite, training_threat)]


def _validate_stopping(config: DictConfig, module: Classifier) -> None:
    """What an inner loop that examples leave, each after steps of its own, does not go with."""
    for key, attack in (("attack", module.attack), ("validation", module.validation)):
        stopping = [part for part in attack.modules() if isinstance(part, Ascent) and part.stop_after is not None]
        if stopping and module.compiler is not None:
            raise ConfigError(
                f"{key}.stop_after does not go with model.compile, which compiles every size of batch; leave one out"
            )
        if config.trainer.get("sync_batchnorm") and any(part.mode == "train" for part in stopping):
            raise ConfigError(
                f"{key}.stop_after does not go with {key}.mode=train and trainer.sync_batchnorm=true: devices would take "
                f"different numbers of steps and wait for one another for ever; set {key}.mode to eval, or stop_after to null"
            )


def validate_suite(suite: Suite, net: Network, data: DataModule) -> None:
    """Whether everything that an evaluation consists of works on this network and data.

    Raises:
        ConfigError: naming the part that does not.
    """
    _embeds(net, data)
    _fits("evaluation.threat", suite.threat, data)
    for name, attack in suite.attacks.items():
        for key, part in _parts(f"evaluation.attacks.{name}", attack):
            if part.training_only:
                raise ConfigError(f"{key}: {type(part).__name__} is for training alone")
            _try(key, part, net, data, several=False)
    if suite.minimal_norm is not None and data.encoder is not None:
        raise ConfigError(
            "evaluation.minimal_norm: its attacks can leave no feature alone; set it to null for tables and texts"
        )
    if suite.corruptions is not None:
        possible = applicable(data.shape)
        if not possible:
            raise ConfigError(f"evaluation.corruptions: inputs of shape {list(data.shape)} are no images; set it to null")
        if unfit := set(suite.corruptions.names or ()) - set(possible):
            raise ConfigError(
                f"evaluation.corruptions.names: {', '.join(sorted(unfit))} is not for inputs of shape {list(data.shape)}"
            )


def _parts(key: str, attack: Attack) -> Iterator[tuple[str, Attack]]:
    """An attack by its key; of a cascade of one's own the attacks in it too."""
    yield key, attack
    if isinstance(attack, Cascade) and not isinstance(attack, AutoAttack):
        for name, part in attack.attacks.items():
            yield from _parts(f"{key}.attacks.{name}", part)


def _embeds(net: Network, data: DataModule) -> None:
    """Whether an adversary can move in what the network makes of its inputs."""
    x = data.split("train").x[:1]
    if x.dtype == torch.int64 and not net.lift(x).is_floating_point():
        raise ConfigError(
            "model: inputs are tokens, and this network does not embed them; take model=text_cnn or text_transformer"
        )


def _fits(key: str, threat: Threat, data: DataModule) -> None:
    """A threat set that suits the inputs: not wider than they are, and around them."""
    limit = threat.on(next(iter(data.loader("val", batch_size=1)))).diameter(math.prod(data.shape))
    if threat.eps > limit:
        raise ConfigError(f"{key}.eps is {threat.eps:g}, but no two inputs are further apart than {limit:g}")
    if data.domain is not None:
        return  # each feature has its own range
    x = data.split("train").x
    low, high = (float(x.min()), float(x.max())) if x.is_floating_point() else (0.0, 1.0)
    if low < threat.lower or high > threat.upper:
        raise ConfigError(
            f"{key}: inputs reach from {low:g} to {high:g}, outside of the valid range [{threat.lower:g}, {threat.upper:g}]; "
            "scale them in the source, or set lower and upper of the threat"
        )


def _try(key: str, attack: Attack, net: Network, data: DataModule, *, several: bool = True) -> None:
    """Let an attack perturb two examples: what it cannot do shows before anything is trained.

    AutoAttack and Square are left out, which take thousands of queries for any number of examples; AutoAttack needs classes.
    """
    if isinstance(attack, AutoAttack) and data.classes < 4:
        raise ConfigError(f"{key}: AutoAttack needs at least 4 classes for its targeted DLR loss, and there are {data.classes}")
    if isinstance(attack, Cascade | Square) or "n_queries" in getattr(attack, "options", {}):
        return
    batch = next(iter(data.loader("val", batch_size=2)))
    try:
        attack.meet(data.encoder)
        found = attack.perturb(net, batch)
    except Exception as error:  # whatever a library raises where it does not fit
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"{key} does not work on this data and model: {reason}") from error
    if not several and len(found) != len(batch):
        raise ConfigError(f"{key} returns several points for each example: it is for training alone, and by itself")


def _try_penalties(module: Classifier, data: DataModule) -> None:
    """Let each penalty act on two examples: what it cannot do shows before anything is trained."""
    batch = next(iter(data.loader("val", batch_size=2)))
    for name, penalty in module.penalties:
        if isinstance(penalty, Rotation) and any(isinstance(part, TorchAttack) for part in module.attack.modules()):
            raise ConfigError(
                f"penalty.{name}: attacks of torchattacks average their loss over the batch and cannot climb the rotation "
                "loss beside it; take one of temper's own, such as attack=pgd"
            )
        try:
            batch = penalty.transform(batch)
            penalty.term(module.net, batch, batch.x)
        except Exception as error:  # whatever a penalty from outside raises
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ConfigError(f"penalty.{name} does not work on this data and model: {reason}") from error


def _without_effect(config: DictConfig) -> list[str]:
    warnings = []
    penalties = build_penalties(config)
    for name, penalty in penalties:
        weight = penalties.relative.get(name, penalties.weights[name])
        size = weight if penalty.magnitude is None else getattr(penalty, penalty.magnitude, None)
        if size == 0:
            warnings.append(f"penalty.{name} has no effect: its weight or magnitude is 0")
    if config.strength != 1 and not is_scaled(config):
        warnings.append(f"strength={config.strength} has no effect: this cell has no penalty that it scales")
    return warnings


def is_scaled(config: DictConfig) -> bool:
    """Whether the root key `strength` scales any penalty of this config: the weight of its term, or its magnitude."""
    for spec in penalty_specs(config.penalty).values():
        magnitude = cast(type[Penalty], get_class(spec["_target_"])).magnitude
        if any(key in spec for key in ([magnitude] if magnitude else ["weight", "relative"])):
            return True
    return False


def _weaker(config: DictConfig, attack: object, suite: Suite, training: Threat | None) -> list[str]:
    """An evaluation that could not find what the training attack finds."""
    warnings = []
    steps = getattr(attack, "steps", 0)
    most = max(getattr(member, "steps", getattr(member, "options", {}).get("steps", 0)) for member in suite.attacks.values())
    if most < steps:
        warnings.append(
            f"evaluation={config.evaluation.name} takes at most {most} steps, the training attack {steps}: it is too weak"
        )
    if isinstance(attack, TorchAttack) and attack.engine.__name__ in ("APGD", "APGDT", "FAB", "Square"):
        warnings.append(f"{attack.engine.__name__} returns x itself where it fails: training would see clean examples there")
    if training is not None and training.norm == suite.threat.norm and suite.threat.eps < training.eps:
        warnings.append(f"evaluation.threat.eps ({suite.threat.eps:g}) is below the radius trained at ({training.eps:g})")
    return warnings
