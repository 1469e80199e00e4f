"""The shape of a record that is read: what of it is a number, a text, a mapping, down to single metrics."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

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


class Recorded(_Strict):
    """As `temper.records.RunRecord`, whose names are checked there."""

    status: Literal["finished", "failed"]
    study: str
    attack: str
    penalty: str
    kind: str
    digest: str
    seed: int
    code: str
    config: dict[str, Any]
    versions: dict[str, Any] = {}
    hardware: dict[str, Any] = {}
    curves: dict[str, list[float | None]] = {}
    cost: Numbers = {}
    evaluations: dict[str, Evaluation] = {}
    error: str | None = None


def check(values: Any) -> None:
    """Hold what was read to this shape.

    Raises:
        ValueError: it has another; the message names the place, and what should stand there.
    """
    try:
        Recorded.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}") from error
