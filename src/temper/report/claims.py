"""Claims as data, and what a study says of each: supported, contradicted, or undecided at this sample size."""

import math
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, ConfigDict, Discriminator, Tag, ValidationError, model_validator

from temper.arguments import Number
from temper.config import CONF, ConfigError
from temper.report.factorial import floors, squares
from temper.report.lacking import cells_lacking, metric_lacking
from temper.report.paired import STATISTICS, Runs, holm, mean_of_pairs, summarize
from temper.report.power import seeds_needed
from temper.report.sides import Side, pairs


class Verdict(StrEnum):
    """What a study says of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    LACKING = "lacking"  # cells, or a metric


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(Strict):
    """One contrast on one metric, and what is said of it; see conf/report/claims.yaml."""

    of: Side | None = None
    against: Side | None = None
    best: bool = False
    synergy: Side | None = None
    metric: str
    direction: Literal["more", "less"]
    margin: Number = 0.0

    @model_validator(mode="after")
    def _one_contrast(self) -> Self:
        if (self.synergy is None) == (self.of is None or self.against is None):
            raise ValueError("a part needs `of` and `against`, or `synergy` alone")
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
    Annotated[Part, Tag("part")] | Annotated[All, Tag("all")] | Annotated[AnyOf, Tag("any")], Discriminator(_which)
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


def parts(node: Part | All | AnyOf, joined: str = "") -> Iterator[tuple[str, Part]]:
    """Every part, and how it is joined to the others ("", "all", "all any", …)."""
    if isinstance(node, Part):
        yield joined, node
    else:
        word, nodes = ("all", node.all) if isinstance(node, All) else ("any", node.any)
        for each in nodes:
            yield from parts(each, f"{joined} {word}".strip())


def verdict(node: Part | All | AnyOf, found: Mapping[Part, Verdict]) -> Verdict:
    """Of the whole, from those of its parts: Kleene's three values, where what is lacking is unknown too."""
    if isinstance(node, Part):
        return found[node]
    decisive, otherwise = Verdict.CONTRADICTED, Verdict.SUPPORTED
    nodes = node.all if isinstance(node, All) else node.any
    if isinstance(node, AnyOf):
        decisive, otherwise = otherwise, decisive
    there = {verdict(each, found) for each in nodes}
    return next((v for v in (decisive, Verdict.LACKING, Verdict.UNDECIDED) if v in there), otherwise)


class Judged(NamedTuple):
    """Claims with their verdicts.

    Attributes:
        table: one row per part: claim, sentence, verdict (of the claim), joined, metric, contrast, direction, margin, found
            (the verdict of the part), pairs, `paired.STATISTICS` (p: of the mean against the margin), p_holm (within the family
            of all claims), seeds_needed (of what is undecided), lacks, note.
        verdicts: by the name of the claim.
    """

    table: pd.DataFrame
    verdicts: dict[str, Verdict]

    def summary(self) -> str:
        """Such as "7 claims supported, 2 contradicted, 5 undecided, 3 lack cells"."""
        counts = {verdict: list(self.verdicts.values()).count(verdict) for verdict in Verdict}
        words = {Verdict.LACKING: "lacking cells or metrics"}
        said = [f"{n} {words.get(verdict, verdict)}" for verdict, n in counts.items() if n]
        noun = "claim" if said and said[0].startswith("1 ") else "claims"
        return ", ".join(said).replace(" ", f" {noun} ", 1) if said else "no claims"


def judge(claims: Mapping[str, Claim], runs: Runs, study: str) -> Judged:
    """Each claim by all numbers of a study.

    Args:
        study: its name, for the command that would make what it lacks.
    """
    rows, verdicts = [], {}
    for name, claim in claims.items():
        judged = [_judge(part, runs, study) | {"joined": joined} for joined, part in parts(claim.holds)]
        verdicts[name] = verdict(claim.holds, {row["part"]: row["found"] for row in judged})
        for row in judged:
            note = " ".join(filter(None, [claim.note, row.pop("flag")]))
            rows.append({"claim": name, "sentence": claim.sentence, "verdict": verdicts[name], **row, "note": note})
    columns = ["claim", "sentence", "verdict", "joined", "metric", "contrast", "direction", "margin", "found", "pairs"]
    columns += [*STATISTICS, "p_holm", "seeds_needed", "lacks", "note"]
    table = pd.DataFrame(rows, columns=[*columns, "part"]).drop(columns="part")
    table["p_holm"] = holm(table.p, pd.Series("claims", index=table.index))
    return Judged(table, verdicts)


def _judge(part: Part, runs: Runs, study: str) -> dict[str, Any]:
    row = {"part": part, "metric": part.metric, "contrast": part.contrast, "direction": part.direction, "margin": part.margin}
    row |= {"pairs": 0, "n": 0, "found": Verdict.LACKING, "lacks": "", "flag": "", "seeds_needed": math.nan}
    chosen = _contrasts(part, runs)
    if not chosen:
        sides = [side for side in (part.synergy, part.of, part.against) if side]
        return row | {"lacks": cells_lacking(runs, sides, study, steered=part.best)}
    if part.metric not in runs.metrics:
        return row | {"lacks": metric_lacking(part.metric, study)}
    number = runs.metrics.index(part.metric)
    series = [runs.difference(contrast)[:, number] for contrast in chosen]
    found: dict[Any, Any] = summarize(mean_of_pairs(series)[None], part.margin).iloc[0].to_dict()
    row |= {**found, "n": int(found["n"]), "pairs": sum(bool(np.isfinite(each).any()) for each in series)}
    if row["n"] == 0:
        return row | {"lacks": f"{part.metric} for a seed that all cells share"}
    row["found"] = part.verdict(found["low"], found["high"])
    if row["found"] == Verdict.UNDECIDED:
        row["seeds_needed"] = seeds_needed(found["mean"], found["sd"], part.margin)
    if part.synergy:
        flagged = {floors(runs, contrast).get(part.metric, "") for contrast in chosen} - {""}
        row["flag"] = "; ".join(sorted(flagged))
    return row


def _contrasts(part: Part, runs: Runs) -> Sequence[Mapping[Any, float]]:
    if part.synergy:
        chosen = [square for square in squares(runs) if part.synergy.has(square.combined)]
        return [square.effects["synergy"] for square in chosen]
    assert part.of and part.against
    best = None
    if part.best and part.metric in runs.metrics:
        sign = 1 if part.direction == "more" else -1
        means = np.ma.masked_invalid(runs.values[:, :, runs.metrics.index(part.metric)]).mean(axis=1) * sign
        best = dict(zip(runs.cells, means.filled(-np.inf), strict=True))
    return pairs(runs, part.of, part.against, best)
