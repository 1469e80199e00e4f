"""Schema by which records are validated when read, down to single metrics."""

import math
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

Status = Literal["passed", "warned", "failed"]
STATUSES: tuple[Status, ...] = ("passed", "warned", "failed")  # outcomes of an audit's check, from best to worst
Numbers = dict[str, float | None]  # NaN is written as null


class _Strict(BaseModel):
    """Base model without type coercion; fields that it does not name are accepted unchecked."""

    model_config = ConfigDict(strict=True)


class Finding(_Strict):
    """One check of an audit."""

    status: Status
    figure: float | None
    meaning: str


class Checkpoint(_Strict):
    """Evaluation of one checkpoint."""

    epoch: int | None = None
    metrics: Numbers
    audit: dict[str, Finding] = {}


class Suite(_Strict):
    """Config of an evaluation suite."""

    attacks: dict[str, Any]


class Evaluation(_Strict):
    """Evaluation of a run by one suite."""

    suite: Suite
    checkpoints: dict[str, Checkpoint]
    run: Numbers

    @model_validator(mode="after")
    def _check_accuracies(self) -> Self:
        """Reject accuracies outside [0, 1]: a percentage from another program would distort every mean."""
        for name, checkpoint in self.checkpoints.items():
            for accuracy in ("clean", "worst_case", *self.suite.attacks):
                value = checkpoint.metrics.get(f"test/{accuracy}")
                if value is not None and math.isfinite(value) and not 0 <= value <= 1:
                    raise ValueError(f"test/{accuracy} of {name} is {value}, but an accuracy is between 0 and 1")
        return self


class RecordSchema(_Strict):
    """Types of the fields of `temper.runs.record.RunRecord`, whose constructor checks their names."""

    status: Literal["finished", "failed"]
    study: str
    attack: str
    penalty: str
    kind: str
    digest: str
    seed: int
    code: str
    config: dict[str, Any]
    commit: str | None = None
    dirty: bool | None = None
    threads: int = 1
    epochs: int = 0
    versions: dict[str, Any] = {}
    hardware: dict[str, Any] = {}
    curves: dict[str, list[float | None]] = {}
    cost: Numbers = {}
    evaluations: dict[str, Evaluation] = {}
    error: str | None = None


class _Source(_Strict):
    source: dict[str, Any]


class _Named(_Strict):
    name: str


class _Config(_Strict):
    data: _Source
    validation: _Named
    attack: dict[str, Any] = {}
    strength: float = 1.0
    published: list[str] | None = None


class _Threat(_Strict):
    eps: str | float


class _ThreatSuite(_Strict):
    norm: str
    threat: _Threat


class _Evaluated(_Strict):
    suite: _ThreatSuite


class ReportedFields(_Strict):
    """Fields that a report shows in addition to the metrics: data, validation attack, threat, versions and hardware."""

    config: _Config
    versions: dict[str, str]
    hardware: dict[str, Any]
    evaluations: dict[str, _Evaluated]


def validate_schema(values: Any, schema: type[BaseModel] = RecordSchema) -> None:
    """Validate the values of a record.

    Args:
        values: the values as read from JSON.
        schema: the model that they must match.

    Raises:
        ValueError: they do not match; the message names the field and what is wrong with it.
    """
    try:
        schema.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field, message = ".".join(map(str, first["loc"])) or "record", first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{field}: {message}") from error
