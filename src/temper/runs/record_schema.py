"""The shape of a record that is read: what of it is a number, a text, a mapping, down to single metrics."""

import math
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

Status = Literal["passed", "warned", "failed"]
STATUSES: tuple[Status, ...] = ("passed", "warned", "failed")  # of an audit's check, from good to bad
Numbers = dict[str, float | None]  # NaN is written as null


class _Strict(BaseModel):
    """Text is no number, and a list is no mapping; what is not named here is left as it is."""

    model_config = ConfigDict(strict=True)


class Finding(_Strict):
    status: Status
    figure: float | None
    meaning: str


class Checkpoint(_Strict):
    epoch: int | None = None
    metrics: Numbers
    audit: dict[str, Finding] = {}


class Suite(_Strict):
    attacks: dict[str, Any]


class Evaluation(_Strict):
    suite: Suite
    checkpoints: dict[str, Checkpoint]
    run: Numbers

    @model_validator(mode="after")
    def _accuracies_are_shares(self) -> Self:
        """A percentage, as another program may write it, would be a hundred times too much in every mean."""
        for name, checkpoint in self.checkpoints.items():
            for accuracy in ("clean", "worst_case", *self.suite.attacks):
                value = checkpoint.metrics.get(f"test/{accuracy}")
                if value is not None and math.isfinite(value) and not 0 <= value <= 1:
                    raise ValueError(f"test/{accuracy} of {name} is {value}, and a share of examples lies between 0 and 1")
        return self


class Recorded(_Strict):
    """As `temper.runs.record.RunRecord`, whose names are checked there."""

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


class _Measured(_Strict):
    norm: str
    threat: _Threat


class _Evaluated(_Strict):
    suite: _Measured


class Described(_Strict):
    """What of a record a report tells beside its numbers: the data, the validation attack, the threat, the machine."""

    config: _Config
    versions: dict[str, str]
    hardware: dict[str, Any]
    evaluations: dict[str, _Evaluated]


def check(values: Any, shape: type[BaseModel] = Recorded) -> None:
    """Hold what was read to this shape.

    Raises:
        ValueError: it has another; the message names the place, and what should stand there.
    """
    try:
        shape.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place, said = ".".join(map(str, first["loc"])) or "the whole", first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{place}: {said}") from error
