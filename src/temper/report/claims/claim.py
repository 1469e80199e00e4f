"""Claims as data: sentences with the contrasts that decide them, and the logic that combines verdicts."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, ConfigDict, Discriminator, Tag, ValidationError, model_validator

from temper.config.composed import CONF
from temper.config.errors import ConfigError
from temper.config.types import Number
from temper.report.statistics.contrasts import Side
from temper.report.statistics.metric_catalogue import is_accuracy


class Verdict(StrEnum):
    """Verdict of a study on a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    NOT_EVALUATED = "not evaluated"  # cells or the metric are missing


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ContrastClaim(_Strict):
    """A contrast on one metric and its claimed direction; conf/report/claims.yaml describes the format.

    Attributes:
        of: side with the claimed property; with `against`, a comparison.
        against: side that it is compared with.
        best: metric by which the best cell of `against` is chosen; empty compares with all of them.
        synergy: combined cells whose synergy is claimed; excludes `of` and `against`.
        metric: full name of the metric.
        scale: "own", or "logit" for the log odds of an accuracy.
        direction: sign of the claimed difference.
        margin: least size of the claimed difference, in the unit of the metric.
        optional: whether a missing metric or cell leaves the other contrasts of the claim to decide.
    """

    of: Side | None = None
    against: Side | None = None
    best: str = ""
    synergy: Side | None = None
    metric: str
    scale: Literal["own", "logit"] = "own"
    direction: Literal["more", "less"]
    margin: Number = 0.0
    optional: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.synergy is None) == (self.of is None or self.against is None):
            raise ValueError("a contrast needs either `of` and `against`, or `synergy`")
        if self.scale == "logit" and not is_accuracy(self.metric):
            raise ValueError(f"scale=logit: {self.metric} is no accuracy and has no log odds")
        return self

    @property
    def contrast(self) -> str:
        """Description of the contrast, such as "any x none - none x none"."""
        return f"synergy of {self.synergy}" if self.synergy else f"{self.of} - {'best of ' if self.best else ''}{self.against}"

    def verdict(self, low: float, high: float) -> Verdict:
        """Return the verdict for the 95 % interval of the difference; NaN bounds, as for one seed, are undecided."""
        if self.direction == "less":
            low, high = -high, -low
        margin = self.margin if self.direction == "more" else -self.margin
        return Verdict.SUPPORTED if low > margin else Verdict.CONTRADICTED if high <= margin else Verdict.UNDECIDED


class All(_Strict):
    """Conjunction: holds if every part holds."""

    all: list["Node"]


class AnyOf(_Strict):
    """Disjunction: holds if at least one part holds."""

    any: list["Node"]


def _node_type(value: Any) -> str:
    return next((key for key in ("all", "any") if isinstance(value, Mapping) and key in value), "part")


Node = Annotated[
    Annotated[ContrastClaim, Tag("part")] | Annotated[All, Tag("all")] | Annotated[AnyOf, Tag("any")], Discriminator(_node_type)
]


class Claim(_Strict):
    """A sentence and the contrasts that decide it.

    Attributes:
        sentence: the claim in words.
        holds: a contrast, or a conjunction or disjunction of contrasts.
        note: remark for the reader.
    """

    sentence: str
    holds: Node
    note: str = ""


def load_claims(settings: DictConfig | None = None) -> dict[str, Claim]:
    """Load the claims of a report, by name.

    Args:
        settings: config with `report.claims`; None: conf/report/claims.yaml.

    Raises:
        ConfigError: a claim does not have the format described in conf/report/claims.yaml.
    """
    values: Any = OmegaConf.load(Path(CONF) / "report" / "claims.yaml") if settings is None else settings.report
    claims = {}
    for name, value in OmegaConf.to_container(values, resolve=True).get("claims", {}).items():  # type: ignore[union-attr]
        try:
            claims[str(name)] = Claim.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, ["report.claims", name, *first["loc"]]))
            value = "" if isinstance(first["input"], dict | list) else f"={first['input']!r}"
            raise ConfigError(f"{key}{value}: {first['msg']}. conf/report/claims.yaml describes the format.") from error
    return claims


def iter_contrasts(node: ContrastClaim | All | AnyOf, joined: str = "") -> Iterator[tuple[str, ContrastClaim]]:
    """Yield every contrast of a claim with the operators around it ("", "all", "all any", …).

    Args:
        node: a contrast, conjunction or disjunction.
        joined: operators around the node.
    """
    if isinstance(node, ContrastClaim):
        yield joined, node
    else:
        operator, nodes = ("all", node.all) if isinstance(node, All) else ("any", node.any)
        for each in nodes:
            yield from iter_contrasts(each, f"{joined} {operator}".strip())


def combine_verdicts(node: ContrastClaim | All | AnyOf, verdicts: Mapping[ContrastClaim, Verdict]) -> Verdict:
    """Combine the verdicts of contrasts into that of a claim, by Kleene's three-valued logic.

    Contrasts that are undecided or not evaluated are unknown; optional ones that are not evaluated are left out.

    Args:
        node: a contrast, conjunction or disjunction.
        verdicts: verdict of every contrast.
    """
    if isinstance(node, ContrastClaim):
        return verdicts[node]
    decisive, otherwise = Verdict.CONTRADICTED, Verdict.SUPPORTED
    nodes = node.all if isinstance(node, All) else node.any
    if isinstance(node, AnyOf):
        decisive, otherwise = otherwise, decisive
    combined = {combine_verdicts(each, verdicts) for each in nodes if not _is_left_out(each, verdicts)}
    if not combined:
        return Verdict.NOT_EVALUATED
    return next((v for v in (decisive, Verdict.NOT_EVALUATED, Verdict.UNDECIDED) if v in combined), otherwise)


def _is_left_out(node: ContrastClaim | All | AnyOf, verdicts: Mapping[ContrastClaim, Verdict]) -> bool:
    return isinstance(node, ContrastClaim) and node.optional and verdicts[node] == Verdict.NOT_EVALUATED
