"""Claims as data, and what a study says of each: supported, contradicted, or undecided at this sample size."""

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
    """What a study says of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    LACKING = "lacking"  # cells, or a metric


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ContrastClaim(Strict):
    """One contrast on one metric, and what is said of it; see conf/report/claims.yaml."""

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
    def _one_contrast(self) -> Self:
        if (self.synergy is None) == (self.of is None or self.against is None):
            raise ValueError("a part needs `of` and `against`, or `synergy` alone")
        if self.scale == "logit" and not is_accuracy(self.metric):
            raise ValueError("only an accuracy has log odds: scale=logit")
        return self

    @property
    def contrast(self) -> str:
        """Such as "any x none - none x none"."""
        return f"synergy of {self.synergy}" if self.synergy else f"{self.of} - {'best of ' if self.best else ''}{self.against}"

    def verdict(self, low: float, high: float) -> Verdict:
        """By a 95 % interval of the difference; NaN, as of one seed, decides nothing."""
        if self.direction == "less":
            low, high = -high, -low
        margin = self.margin if self.direction == "more" else -self.margin
        return Verdict.SUPPORTED if low > margin else Verdict.CONTRADICTED if high <= margin else Verdict.UNDECIDED


class All(Strict):
    """Holds where every part does."""

    all: list["Node"]


class AnyOf(Strict):
    """Holds where one part does."""

    any: list["Node"]


def _which(value: Any) -> str:
    return next((key for key in ("all", "any") if isinstance(value, Mapping) and key in value), "part")


Node = Annotated[
    Annotated[ContrastClaim, Tag("part")] | Annotated[All, Tag("all")] | Annotated[AnyOf, Tag("any")], Discriminator(_which)
]


class Claim(Strict):
    """A sentence, and the parts that it holds by."""

    sentence: str
    holds: Node
    note: str = ""


def load(settings: DictConfig | None = None) -> dict[str, Claim]:
    """The claims of a report's config, `report.claims`; None: those of conf/report/claims.yaml.

    Raises:
        ConfigError: a claim is not of the form that is described there.
    """
    values: Any = OmegaConf.load(Path(CONF) / "report" / "claims.yaml") if settings is None else settings.report
    found = {}
    for name, value in OmegaConf.to_container(values, resolve=True).get("claims", {}).items():  # type: ignore[union-attr]
        try:
            found[str(name)] = Claim.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, ["report.claims", name, *first["loc"]]))
            raise ConfigError(f"{where}: {first['msg']}, not {first['input']!r}") from error
    return found


def parts(node: ContrastClaim | All | AnyOf, joined: str = "") -> Iterator[tuple[str, ContrastClaim]]:
    """Every part, and how it is joined to the others ("", "all", "all any", …)."""
    if isinstance(node, ContrastClaim):
        yield joined, node
    else:
        word, nodes = ("all", node.all) if isinstance(node, All) else ("any", node.any)
        for each in nodes:
            yield from parts(each, f"{joined} {word}".strip())


def verdict(node: ContrastClaim | All | AnyOf, found: Mapping[ContrastClaim, Verdict]) -> Verdict:
    """Of the whole, from those of its parts: Kleene's three values. What is lacking is unknown; left out if optional."""
    if isinstance(node, ContrastClaim):
        return found[node]
    decisive, otherwise = Verdict.CONTRADICTED, Verdict.SUPPORTED
    nodes = node.all if isinstance(node, All) else node.any
    if isinstance(node, AnyOf):
        decisive, otherwise = otherwise, decisive
    there = {verdict(each, found) for each in nodes if not _left_out(each, found)}
    if not there:
        return Verdict.LACKING
    return next((v for v in (decisive, Verdict.LACKING, Verdict.UNDECIDED) if v in there), otherwise)


def _left_out(node: ContrastClaim | All | AnyOf, found: Mapping[ContrastClaim, Verdict]) -> bool:
    return isinstance(node, ContrastClaim) and node.optional and found[node] == Verdict.LACKING
