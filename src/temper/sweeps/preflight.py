"""Checks of a run before it starts: settings that contradict each other, have no effect, or do not work together."""

import json
import math
from collections.abc import Iterator
from typing import cast

import torch

from temper.attacks import Attack, AutoAttack, Cascade, Evolving, Square, Threat, TorchAttack
from temper.attacks.ascent import Ascent
from temper.config.errors import ConfigError, first_line
from temper.config.node import target_of
from temper.config.resolvers import workers
from temper.config.run_config import RunConfig
from temper.data import DataModule
from temper.data.loading import cached_data, data_key
from temper.evaluation import Suite
from temper.evaluation.corruptions import applicable
from temper.models import Network
from temper.penalties import Penalty, Rotation
from temper.sweeps.compile_checks import validate_compiled
from temper.training.modules import Classifier, build_module, build_penalties

# Suites that this process has validated, with their data and architecture: the cells of a grid share them.
_validated_suites: set[str] = set()


def validate(run: RunConfig) -> list[str]:
    """Build all parts of a run, load its data, try its attacks and penalties, and check that all of them work together.

    Args:
        run: the run.

    Returns:
        Warnings about settings that are allowed, but probably not intended.

    Raises:
        ConfigError: the run would fail, or would not measure what its settings say.
        DataError: the data is missing or unusable.
    """
    workers(run.trainer.accelerator, run.runs_per_gpu)
    module, suite = build_module(run), Suite.of(run)
    data = cached_data(data_key(run.data))
    try:
        module.optimizer(module.parameters())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer: {error}") from error
    run.trainer.build(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    if run.optimizer.get("weight_decay"):
        raise ConfigError(
            f"optimizer.weight_decay={run.optimizer.weight_decay}: would regularize every cell, including the unregularized "
            "baseline penalty=none. Set it to 0 and use penalty=weight_decay (or penalty=l2, which is equivalent for SGD)."
        )
    try:
        module.net.observe(data.split("train").x)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    _check_embedding(module.net, data)
    training_threat: Threat | None = getattr(module.attack, "threat", None)
    for threat in getattr(module.attack, "threats", [training_threat]):
        if threat is not None:
            _check_threat("attack.threat", threat, data)
    for key, part in _nested_attacks("attack", module.attack):
        if part.evaluation_only:
            raise ConfigError(f"{key}: {type(part).__name__} is for evaluation only. Choose another training attack.")
    _check_attack("attack", module.attack, module.net, data)
    _check_early_stopping(run, module)
    if isinstance(module.attack, Evolving):
        for member in module.attack.members:
            _check_attack("attack.attacks", cast(Attack, member), module.net, data, several=False)
    _check_penalties(module, data)
    if module.compiler is not None:
        validate_compiled(run, module, data)
    if run.evaluation.checkpoints:
        setting = data_key(run.data) + json.dumps(run.evaluation.plain()) + repr(module.net)
        if setting not in _validated_suites:
            validate_suite(suite, module.net, data)
            _validated_suites.add(setting)
    return [*_ineffective_settings(run), *_weak_evaluation(run, module.attack, suite, training_threat)]


def _check_early_stopping(run: RunConfig, module: Classifier) -> None:
    """Raise if an attack that stops early for single examples cannot run with the other settings."""
    for key, attack in (("attack", module.attack), ("validation", module.validation)):
        stopping = [part for part in attack.modules() if isinstance(part, Ascent) and part.stop_after is not None]
        if stopping and module.compiler is not None:
            raise ConfigError(
                f"{key}.stop_after={stopping[0].stop_after}: is not supported by model.compile, which compiles every batch "
                f"size. Set {key}.stop_after=null or model.compile=false."
            )
        if run.trainer.get("sync_batchnorm") and any(part.mode == "train" for part in stopping):
            raise ConfigError(
                f"{key}.stop_after={stopping[0].stop_after}: is not supported with {key}.mode=train and "
                "trainer.sync_batchnorm=true, because devices would take different numbers of steps and deadlock. Set "
                f"{key}.mode=eval or {key}.stop_after=null."
            )


def validate_suite(suite: Suite, net: Network, data: DataModule) -> None:
    """Check that all parts of an evaluation work with a network and data.

    Args:
        suite: of the evaluation.
        net: to evaluate.
        data: to evaluate on.

    Raises:
        ConfigError: a part does not work; the message names it.
    """
    _check_embedding(net, data)
    _check_threat("evaluation.threat", suite.threat, data)
    for name, attack in suite.attacks.items():
        for key, part in _nested_attacks(f"evaluation.attacks.{name}", attack):
            if part.training_only:
                raise ConfigError(f"{key}: {type(part).__name__} is for training only. Choose another attack.")
            _check_attack(key, part, net, data, several=False)
    if suite.minimal_norm is not None and data.encoder is not None:
        raise ConfigError(
            "evaluation.minimal_norm: its attacks cannot respect the immutable features of tables and texts. Set it to null."
        )
    if suite.corruptions is not None:
        possible = applicable(data.shape)
        if not possible:
            raise ConfigError(
                f"evaluation.corruptions: need images, but inputs have shape {list(data.shape)}. Set "
                "evaluation.corruptions=null."
            )
        if unfit := set(suite.corruptions.names or ()) - set(possible):
            raise ConfigError(
                f"evaluation.corruptions.names: {', '.join(sorted(unfit))} cannot be applied to inputs of shape "
                f"{list(data.shape)}. Choose from {', '.join(possible)}."
            )


def _nested_attacks(key: str, attack: Attack) -> Iterator[tuple[str, Attack]]:
    """Yield an attack and, for a user-defined cascade, the attacks in it, each with its config key."""
    yield key, attack
    if isinstance(attack, Cascade) and not isinstance(attack, AutoAttack):
        for name, part in attack.attacks.items():
            yield from _nested_attacks(f"{key}.attacks.{name}", part)


def _check_embedding(net: Network, data: DataModule) -> None:
    """Raise if inputs are tokens and the network gives no continuous space for an attack."""
    x = data.split("train").x[:1]
    if x.dtype == torch.int64 and not net.lift(x).is_floating_point():
        raise ConfigError(
            "model: inputs are tokens, but this network does not embed them. Use model=text_cnn or model=text_transformer."
        )


def _check_threat(key: str, threat: Threat, data: DataModule) -> None:
    """Raise if a perturbation set is wider than the inputs, or does not contain them."""
    limit = threat.for_batch(next(iter(data.loader("val", batch_size=1)))).diameter(math.prod(data.shape))
    if threat.eps > limit:
        raise ConfigError(
            f"{key}.eps={threat.eps:g}: exceeds the largest {threat.norm} distance between two inputs, {limit:g}. "
            "Use a smaller eps."
        )
    if data.domain is not None:
        return  # each feature has its own range
    x = data.split("train").x
    low, high = (float(x.min()), float(x.max())) if x.is_floating_point() else (0.0, 1.0)
    if low < threat.lower or high > threat.upper:
        raise ConfigError(
            f"{key}: inputs range from {low:g} to {high:g}, outside of the valid range [{threat.lower:g}, {threat.upper:g}]. "
            "Rescale them in the data source, or set lower and upper of the threat."
        )


def _check_attack(key: str, attack: Attack, net: Network, data: DataModule, *, several: bool = True) -> None:
    """Let an attack perturb two examples, to show errors before training starts.

    Cascades such as AutoAttack, and Square, are only built: they take thousands of queries for any number of examples.

    Args:
        key: of the attack in the config.
        attack: to try.
        net: to attack.
        data: to attack.
        several: allow several adversarial points per example.
    """
    if isinstance(attack, AutoAttack) and data.classes < 4:
        raise ConfigError(
            f"{key}: AutoAttack needs at least 4 classes for its targeted DLR loss, but the data has {data.classes}. Use "
            "another suite, such as evaluation=standard."
        )
    if isinstance(attack, Cascade | Square) or "n_queries" in getattr(attack, "options", {}):
        return
    batch = next(iter(data.loader("val", batch_size=2)))
    try:
        attack.set_encoder(data.encoder)
        x_adv = attack.perturb(net, batch)
    except Exception as error:  # a library may raise anything
        raise ConfigError(f"{key}: does not work with this data and model: {first_line(error)}") from error
    if not several and len(x_adv) != len(batch):
        raise ConfigError(
            f"{key}: returns several adversarial points per example, which only a training attack on its own may do. Choose "
            "another attack."
        )


def _check_penalties(module: Classifier, data: DataModule) -> None:
    """Apply each penalty to two examples, to show errors before training starts."""
    batch = next(iter(data.loader("val", batch_size=2)))
    for name, penalty in module.penalties:
        if isinstance(penalty, Rotation) and any(isinstance(part, TorchAttack) for part in module.attack.modules()):
            raise ConfigError(
                f"penalty.{name}: is not supported with attacks of torchattacks, which average their loss over the batch and "
                "cannot ascend the rotation loss. Use an attack of temper, such as attack=pgd."
            )
        try:
            batch = penalty.transform(batch)
            penalty.term(module.net, batch, batch.x)
        except Exception as error:  # an external penalty may raise anything
            raise ConfigError(f"penalty.{name}: does not work with this data and model: {first_line(error)}") from error


def _ineffective_settings(run: RunConfig) -> list[str]:
    """Return warnings about settings that change nothing."""
    warnings = []
    penalties = build_penalties(run)
    for name, penalty in penalties:
        weight = penalties.relative.get(name, penalties.weights[name])
        size = weight if penalty.magnitude is None else getattr(penalty, penalty.magnitude, None)
        if size == 0:
            warnings.append(f"penalty.{name} has no effect: its {penalty.magnitude or 'weight'} is 0")
    if run.strength != 1 and not is_scaled(run):
        warnings.append(f"strength={run.strength:g} has no effect: this cell has no penalty that strength scales")
    return warnings


def is_scaled(run: RunConfig) -> bool:
    """Return True if the root key `strength` scales the weight or magnitude of a penalty of this run."""
    for node in run.penalties.values():
        magnitude = cast(type[Penalty], target_of(node.target, node.key)).magnitude
        if any(key in node for key in ([magnitude] if magnitude else ["weight", "relative"])):
            return True
    return False


def _weak_evaluation(run: RunConfig, attack: object, suite: Suite, training: Threat | None) -> list[str]:
    """Return warnings about an evaluation that is weaker than the training attack.

    Args:
        run: the run.
        attack: of the training.
        suite: of the evaluation.
        training: perturbation set of the training attack.
    """
    warnings = []
    steps = getattr(attack, "steps", 0)
    most = max(getattr(member, "steps", getattr(member, "options", {}).get("steps", 0)) for member in suite.attacks.values())
    if most < steps:
        warnings.append(
            f"evaluation={run.evaluation.name} takes at most {most} attack steps, but the training attack takes {steps}: "
            "robust accuracy may be overestimated"
        )
    if isinstance(attack, TorchAttack) and attack.engine.__name__ in ("APGD", "APGDT", "FAB", "Square"):
        warnings.append(
            f"attack {attack.engine.__name__} returns the clean input where it fails: training would use clean examples there"
        )
    if training is not None and training.norm == suite.threat.norm and suite.threat.eps < training.eps:
        warnings.append(
            f"evaluation.threat.eps={suite.threat.eps:g} is smaller than eps={training.eps:g} of the training attack"
        )
    return warnings
