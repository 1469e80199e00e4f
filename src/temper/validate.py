"""What no single object can see: settings that contradict each other, or have no effect."""

import math

from omegaconf import DictConfig
from pydantic import TypeAdapter, ValidationError

from temper.attacks import NoAttack, Threat
from temper.build import build, build_penalties
from temper.config import ConfigError, penalty_specs
from temper.data import DataModule
from temper.evaluation import Suite
from temper.modules import build_module


def validate(config: DictConfig) -> list[str]:
    """Build everything that a run is made of, load its data, and compare what only fits together.

    Returns:
        Warnings: settings that are allowed and probably not meant.

    Raises:
        ConfigError: the run would fail, or measure something else than it says.
        DataError: the data is missing or unfit.
    """
    for key, kind in (("seed", int), ("threads", int)):
        try:
            TypeAdapter(kind).validate_python(config[key])
        except ValidationError:
            raise ConfigError(f"{key}: should be a whole number (got {config[key]!r})") from None
    if config.stale not in ("ask", "keep", "rerun"):
        raise ConfigError(f"stale: should be ask, keep or rerun (got {config.stale!r})")
    unknown = set(config.keep_checkpoints) - {"best", "last"}
    if unknown or set(config.evaluation.checkpoints) - {"best", "last"}:
        raise ConfigError("keep_checkpoints and evaluation.checkpoints: should list best, last or both")
    module, suite = build_module(config), Suite.of(config)
    data: DataModule = build_data(config)
    data.setup()
    if config.optimizer.get("weight_decay"):
        raise ConfigError(
            f"optimizer.weight_decay is {config.optimizer.weight_decay}: it would regularize every cell in silence, that of "
            "penalty=none too; leave it at 0 and use penalty=weight_decay (or penalty=l2, the same for SGD)"
        )
    training_threat = None if isinstance(module.attack, NoAttack) else getattr(module.attack, "threat", None)
    for key, threat in (("attack.threat", training_threat), ("evaluation.threat", suite.threat)):
        if threat is not None and threat.eps > (limit := threat.diameter(math.prod(data.shape))):
            raise ConfigError(f"{key}.eps is {threat.eps:g}, but no two inputs are further apart than {limit:g}")
    return [*_without_effect(config), *_weaker(config, module.attack, suite, training_threat)]


def build_data(config: DictConfig) -> DataModule:
    """The datamodule of a config, its order of batches keyed by the run's seed."""
    # Threats and statistics are there for attack, evaluation and model to refer to.
    return build(config, "data", without=("threats", "mean", "std"), seed=config.seed)


def _without_effect(config: DictConfig) -> list[str]:
    warnings = []
    penalties = build_penalties(config)
    scaled = False
    for name, weight, penalty in zip(penalties.names, penalties.weights, penalties.members, strict=True):
        size = weight if penalty.magnitude is None else getattr(penalty, penalty.magnitude, None)
        scaled |= penalty.magnitude is not None or "weight" in penalty_specs(config.penalty)[name]
        if size == 0:
            warnings.append(f"penalty.{name} has no effect: its weight or magnitude is 0")
    if config.strength != 1 and not scaled:
        warnings.append(f"strength={config.strength} has no effect: this cell has no penalty that it scales")
    return warnings


def _weaker(config: DictConfig, attack: object, suite: Suite, training: Threat | None) -> list[str]:
    """An evaluation that could not find what the training attack finds."""
    warnings = []
    steps = getattr(attack, "steps", 0)
    most = max(getattr(member, "steps", getattr(member, "options", {}).get("steps", 0)) for member in suite.attacks.values())
    if most < steps:
        warnings.append(
            f"evaluation={config.evaluation.name} takes at most {most} steps, the training attack {steps}: it is too weak"
        )
    if training is not None and training.norm == suite.threat.norm and suite.threat.eps < training.eps:
        warnings.append(f"evaluation.threat.eps ({suite.threat.eps:g}) is below the radius trained at ({training.eps:g})")
    return warnings
