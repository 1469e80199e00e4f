"""The config of one run, parsed once into a typed, frozen object."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from omegaconf import DictConfig
from omegaconf.errors import InterpolationKeyError
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, TypeAdapter, ValidationError

from temper.config.composed import plain as resolved
from temper.config.errors import ConfigError, did_you_mean, first_line
from temper.config.node import TARGET, Node, explain_problems, parse_node, plain, target_of, validated
from temper.config.trainer_config import check_trainer
from temper.config.types import Count, NonNegative, Probability, parse_whole

# Metrics other than those of attacks have these names in tables and records.
RESERVED_NAMES = ("clean", "worst_case", "loss", "risk", "penalty", "fgsm_gap")


def _plain_name(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not re.fullmatch(r"[\w+-][\w.+-]*", value):
        raise ValueError("should be a plain name of letters, digits and _ . + -, since it names files and folders")
    return value


def _attack_name(name: str) -> str:
    if name in RESERVED_NAMES:
        raise ValueError(f"is the name of another metric; choose one that is none of {', '.join(RESERVED_NAMES)}")
    return name


def _seed(value: Any) -> Any:
    try:
        return parse_whole(value)
    except ValueError:
        raise ValueError("should be a whole number; several seeds are seed=0,1,2 or 'seed=range(0,5)' with -m") from None


Seed = Annotated[int, BeforeValidator(_seed)]
Name = Annotated[str, BeforeValidator(_plain_name)]
AttackName = Annotated[Name, AfterValidator(_attack_name)]
Checkpoint = Literal["best", "last"]
OPTIONAL = ("ckpt_path", "audit", "minimal_norm", "curve", "corruptions")  # root and suite keys that may be null
MOST_ERRORS = 12  # what one screen shows


class Frozen(BaseModel):
    """A part of the config that nothing changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Paths(Frozen):
    """Folders: of data sets, of runs and of reports."""

    data: str
    outputs: str
    results: str


class SuiteConfig(Frozen):
    """The config of the final evaluation; `temper.evaluation.Suite` is built from it."""

    name: Name
    norm: Literal["linf", "l2", "l1"]
    threat: Node
    batch_size: Count
    checkpoints: tuple[Checkpoint, ...]
    attacks: dict[AttackName, Node]
    audit: Node | None = None
    minimal_norm: Node | None = None
    curve: Node | None = None
    corruptions: Node | None = None

    NODES: ClassVar[Mapping[str, str]] = {
        "threat": "temper.attacks.Threat",
        "audit": "temper.evaluation.Audit",
        "minimal_norm": "temper.evaluation.MinimalNorm",
        "curve": "temper.evaluation.Curve",
        "corruptions": "temper.evaluation.Corruptions",
    }

    def plain(self) -> dict[str, Any]:
        """Return the suite as plain values."""
        return {name: plain(value) for name, value in self}


class Settings(Frozen):
    """Root keys that every command has which trains or evaluates."""

    study: Name
    seed: Seed
    threads: Count = 1
    runs_per_gpu: Count = 1
    stale: Literal["ask", "keep", "rerun"] = "ask"
    paths: Paths


class EvaluationConfig(Settings):
    """Config of an evaluation, with or without a training before it."""

    data: Node
    model: Node
    validation: Node
    evaluation: SuiteConfig
    trainer: Node

    @property
    def replays(self) -> int:
        """Number of times each batch is repeated, set by the training attack."""
        attack: Node | None = getattr(self, "attack", None)
        return 1 if attack is None else int(attack.get("replays", 1))

    def plain(self) -> dict[str, Any]:
        """Return the config as plain values, as stored in records and checkpoints; `parse` reads them back."""
        return {name: _plain(value) for name, value in self}

    def replace(self, **fields: Any) -> Self:
        """Return a copy with these fields in place of its own."""
        return self.model_copy(update=fields)

    def with_suite(self, values: Mapping[str, Any]) -> Self:
        """Return a copy that is evaluated by another suite, given as plain values.

        Raises:
            ConfigError: something in it is wrong.
        """
        errors: list[str] = []
        suite = parse_suite(values, errors)
        if errors:
            raise ConfigError("\n".join(_shortened(errors)))
        return self.replace(evaluation=suite)


class RunConfig(EvaluationConfig):
    """The config of a run: trained against an attack, under penalties, then evaluated."""

    strength: NonNegative = 1.0
    dry_run: StrictBool = False
    published: tuple[str, ...] = ()
    keep_checkpoints: tuple[Checkpoint, ...] = ("best", "last")
    ckpt_path: str | None = None
    attack: Node
    penalty: dict[str, Any] = Field(default_factory=dict)  # nodes by name, or groups of nodes by name
    optimizer: Node
    schedule: Node
    logger: dict[str, Node] = Field(default_factory=dict)
    vars: dict[str, Any] = Field(default_factory=dict)  # values that interpolations share; no part of the identity

    @property
    def penalties(self) -> dict[str, Node]:
        """Every single penalty by its dotted name."""
        return dict(_penalties(self.penalty))


def _penalties(group: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Node]]:
    for name, value in group.items():
        if isinstance(value, Node):
            yield f"{prefix}{name}", value
        else:
            yield from _penalties(value, f"{prefix}{name}.")


def _plain(value: Any) -> Any:
    if isinstance(value, SuiteConfig):
        return value.plain()
    return value.model_dump() if isinstance(value, BaseModel) else plain(value)


class Entry:
    """Types of the entries of a node that are no arguments of its class."""

    ATTACK: ClassVar[Mapping[str, Any]] = {"name": AttackName}
    MODEL: ClassVar[Mapping[str, Any]] = {
        "compile": Literal[False, True, "cuda_graphs", None],
        "channels_last": StrictBool | None,
    }
    DATA: ClassVar[Mapping[str, Any]] = {
        "mean": list[float] | None,
        "std": list[float] | None,
        "flip": Probability | None,
        "vocabulary": Count | None,
        "length": Count | None,
        "tokenizer": str | None,
        "threats": dict[str, Any],
    }
    PENALTY: ClassVar[Mapping[str, Any]] = {"weight": NonNegative, "relative": NonNegative | None}


def parse(config: DictConfig | Mapping[str, Any]) -> RunConfig:
    """Parse the composed config of a run, or the plain values that a record holds.

    Args:
        config: the config.

    Raises:
        ConfigError: something in it is wrong; the message has a line for each wrong key.
    """
    errors: list[str] = []
    values = _plain_values(config)
    fields = _evaluation_fields(values, errors)
    fields["attack"] = _node(values, "attack", errors, "temper.attacks.Attack", Entry.ATTACK)
    fields["optimizer"] = _node(values, "optimizer", errors, "torch.optim.Optimizer", given=("params",))
    fields["schedule"] = _node(values, "schedule", errors)
    fields["penalty"] = _penalty(values.get("penalty") or {}, "penalty", errors)
    fields["logger"] = {
        name: _node(values["logger"], name, errors, key=f"logger.{name}", given=("save_dir", "content"))
        for name in values.get("logger") or {}
    }
    return _whole(RunConfig, values, fields, errors)


def parse_evaluation(config: DictConfig | Mapping[str, Any], also: tuple[str, ...] = ()) -> EvaluationConfig:
    """Parse the config of an evaluation of a foreign network.

    Args:
        config: the config of temper-evaluate.
        also: root keys that are read elsewhere.

    Raises:
        ConfigError: something in it is wrong; the message has a line for each wrong key.
    """
    errors: list[str] = []
    values = {key: value for key, value in _plain_values(config).items() if key not in also}
    return _whole(EvaluationConfig, values, _evaluation_fields(values, errors), errors)


def check_settings(config: DictConfig) -> None:
    """Check the root keys of temper-evaluate where a run brings the rest of the config.

    Raises:
        ConfigError: something in them is wrong; the message has a line for each wrong key.
    """
    errors: list[str] = []
    elsewhere = ("hydra", "path", "transfer", "data", "model", "validation", "evaluation", "trainer")
    _checked(Settings, resolved(config, without=elsewhere), errors)
    if errors:
        raise ConfigError("\n".join(_shortened(errors)))


def parse_seed(value: Any) -> int:
    """Parse a seed.

    Raises:
        ConfigError: it is no whole number.
    """
    errors: list[str] = []
    seed: int = validated(value, "seed", TypeAdapter(Seed), errors)
    if errors:
        raise ConfigError(errors[0])
    return seed


def parse_data(values: Mapping[str, Any]) -> Node:
    """Parse the plain values of the `data` group.

    Raises:
        ConfigError: something in it is wrong; the message has a line for each wrong key.
    """
    errors: list[str] = []
    data = _data({"data": values}, errors)
    if data is None or errors:
        raise ConfigError("\n".join(_shortened(errors)))
    return data


def _data(values: Mapping[str, Any], errors: list[str]) -> Node | None:
    return _node(values, "data", errors, "temper.data.DataModule", Entry.DATA, given=("seed", "repeats"))


def _evaluation_fields(values: Mapping[str, Any], errors: list[str]) -> dict[str, Any]:
    return {
        "data": _data(values, errors),
        "model": _node(values, "model", errors, "temper.models.Network", Entry.MODEL),
        "validation": _node(values, "validation", errors, "temper.attacks.Attack", Entry.ATTACK),
        "trainer": check_trainer(_node(values, "trainer", errors, "pytorch_lightning.Trainer"), errors),
        "evaluation": parse_suite(values.get("evaluation"), errors),
    }


def parse_suite(values: Any, errors: list[str]) -> SuiteConfig | None:
    """Parse the `evaluation` group; what is wrong with it is added to `errors`."""
    if not isinstance(values, Mapping):
        errors.append(f"evaluation={values}: should be a suite of attacks. Choose an option of the group, such as standard.")
        return None
    fields = dict(values)
    for name, base in SuiteConfig.NODES.items():
        if fields.get(name) is not None or name == "threat":
            fields[name] = _node(values, name, errors, base, key=f"evaluation.{name}")
    attacks = values.get("attacks") or {}
    fields["attacks"] = {
        str(name): _node(attacks, name, errors, "temper.attacks.Attack", key=f"evaluation.attacks.{name}") for name in attacks
    }
    return _checked(SuiteConfig, fields, errors, "evaluation.")


def _plain_values(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Return plain, resolved values; an interpolation that leads nowhere is an error."""
    if not isinstance(config, DictConfig):
        return {str(key): value for key, value in config.items() if key != "hydra"}
    try:
        return resolved(config)
    except InterpolationKeyError as error:
        wanted = re.search(r"'([^']+)'", str(error))
        what = wanted[1] if wanted else first_line(error)
        raise ConfigError(
            f"{error.full_key}: refers to {what}, which this config does not have. Set {error.full_key}, or choose an option "
            "that fits the others."
        ) from error


def _node(
    values: Mapping[str, Any],
    name: str,
    errors: list[str],
    base: str | None = None,
    entries: Mapping[str, Any] | None = None,
    *,
    key: str | None = None,
    given: tuple[str, ...] = (),
) -> Node | None:
    key = key or name
    cls = None if base is None else target_of(base, key)
    found = parse_node(values.get(name), key, errors, base=cls, entries=tuple(entries or ()), given=given)  # type: ignore[arg-type]
    if found is None or not entries:
        return found
    typed = {}
    for entry, value in found.entries.items():
        if entry == "threats" and isinstance(value, Mapping):
            typed[entry] = {
                norm: _node(value, norm, errors, "temper.attacks.Threat", key=f"{key}.threats.{norm}") for norm in value
            }
        else:
            typed[entry] = validated(value, f"{key}.{entry}", _adapter(entries[entry]), errors)
    return Node(found.key, found.target, found.arguments, typed, found.partial)


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    from temper.config.signature import adapter, strict

    return TypeAdapter(annotation) if annotation in (AttackName,) else adapter(strict(annotation))


def _penalty(values: Any, key: str, errors: list[str]) -> dict[str, Any]:
    """Parse the penalties; an entry without a `_target_` groups several (the elastic net is l1 and l2)."""
    if not isinstance(values, Mapping):
        errors.append(f"{key}={values}: should be a penalty with a _target_, or a group of them.")
        return {}
    base: Any = target_of("temper.penalties.Penalty", key)
    found: dict[str, Any] = {}
    for name, value in values.items():
        where = f"{key}.{name}"
        if not isinstance(value, Mapping) or TARGET in value:
            found[str(name)] = _node(values, name, errors, "temper.penalties.Penalty", _weights(value, base), key=where)
        else:
            found[str(name)] = _penalty(value, where, errors)
    return found


def _weights(value: Any, base: Any) -> Mapping[str, Any]:
    """Return the types of `weight` and `relative` for a penalty that adds a term to the loss."""
    try:
        target: Any = target_of(value[TARGET], "")
    except (ConfigError, TypeError, KeyError):
        return {}  # the node itself says what is wrong
    adds_term = isinstance(target, type) and issubclass(target, base) and getattr(target, "term", None) is not base.term
    return Entry.PENALTY if adds_term else {}


def _checked(model: type[BaseModel], fields: Mapping[str, Any], errors: list[str], prefix: str = "") -> Any:
    """Return the model of these fields; None where something is wrong, which is added to `errors`."""
    known = list(model.model_fields)
    errors += [f"{prefix}{key}: there is no such key.{did_you_mean(str(key), known)}" for key in fields if key not in known]
    try:
        return model.model_validate({key: value for key, value in fields.items() if key in known})
    except ValidationError as error:
        nodes = {name for name, value in fields.items() if value is None and name not in OPTIONAL}  # already reported
        by_key: dict[str, list[Any]] = {}
        for problem in error.errors():
            if problem["loc"][0] not in nodes:
                by_key.setdefault(".".join(str(part) for part in problem["loc"] if part != "[key]"), []).append(problem)
        for key, problems in by_key.items():
            missing = problems[0]["type"] == "missing"
            errors.append(f"{prefix}{key}: is missing." if missing else explain_problems(problems, f"{prefix}{key}"))
        return None


def _whole(model: type[Any], values: Mapping[str, Any], fields: Mapping[str, Any], errors: list[str]) -> Any:
    own: list[str] = []
    found = _checked(model, {**values, **fields}, own)
    if own or errors:
        raise ConfigError("\n".join(_shortened([*own, *errors])))
    return found


def _shortened(errors: list[str]) -> list[str]:
    """Return the errors once each: a wrong threat of the data is wrong wherever the config refers to it."""
    first: dict[str, str] = {}
    for line in errors:
        key, separator, rest = line.partition("=")
        origin = re.sub(r".*\bthreats?\.((linf|l2|l1)\.)?", "threat.", key)
        first.setdefault(origin + separator + rest, line)
    lines = list(first.values())
    return lines if len(lines) <= MOST_ERRORS else [*lines[:MOST_ERRORS], f"… and {len(lines) - MOST_ERRORS} more."]
