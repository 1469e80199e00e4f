"""Numbers that papers printed, to stand beside measured ones: data of conf/report/published."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, ValidationError

from temper.config.composed import CONF, flat
from temper.report.records.cell_names import parts_of, without
from temper.report.statistics.mean_and_sd import Spread
from temper.report.statistics.metric_catalogue import describe
from temper.runs.record import RunRecord

SELECTED_ON_TEST = "†"
LEGEND = f"{SELECTED_ON_TEST} the paper chose this checkpoint on the test set itself, which flatters it."


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Value(_Data):
    """One number.

    Attributes:
        metric, checkpoint: as runs.csv names them.
        value: in the unit in which tables show it: percent, seconds, …
        sd: standard deviation; over what, `Published.spread_over` says.
        selected_on_test: whether the checkpoint is the one that did best on the test set.
    """

    metric: str
    checkpoint: Literal["best", "last", "run"] = "last"
    value: float
    sd: float | None = None
    selected_on_test: bool = False

    def spread(self, runs: int) -> Spread:
        """In the unit of a record."""
        factor = describe(self.metric).factor
        return Spread(self.value / factor, float("nan") if self.sd is None else self.sd / factor, runs)


class Entry(_Data):
    """One method of a paper.

    Attributes:
        method: what the paper calls it.
        attack, penalties: of the cells that it is set beside.
        note: what a reader must know of these numbers.
    """

    method: str
    attack: str
    penalties: list[str]
    values: list[Value]
    note: str = ""

    def value(self, metric: str, checkpoint: str) -> Value | None:
        return next((v for v in self.values if (v.metric, v.checkpoint) == (metric, checkpoint)), None)


class Published(_Data):
    """What a paper printed.

    Attributes:
        name: of its file.
        paper, cite: in words, and its key in references.bib.
        source: where exactly the numbers stand.
        setup: by key of the config, the value that the paper's training had.
        about: what else it had.
        runs: how many seeds.
        spread_over: what the standard deviations are over, where there are some.
    """

    name: str
    paper: str
    cite: str
    source: str
    setup: dict[str, str | int | float]
    about: str
    runs: int
    spread_over: str = ""
    entries: list[Entry]

    def of(self, attack: str, penalty: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.attack == attack and penalty in entry.penalties]

    def on(self, baseline: Sequence[str]) -> "Published":
        """The same, its methods set beside cells that are named by what they have beside a baseline."""
        if not baseline:
            return self
        entries = [
            entry.model_copy(
                update={
                    "penalties": [without(name, tuple(baseline)) for name in entry.penalties if {*baseline} <= parts_of(name)]
                }
            )
            for entry in self.entries
        ]
        return self.model_copy(update={"entries": entries})

    def unmatched(self) -> str:
        """That no cell of a study stands beside these numbers."""
        names = ", ".join(dict.fromkeys(f"{entry.attack} x {max(entry.penalties, key=len)}" for entry in self.entries))
        return f"{self.paper}: no cell of this study stands beside its numbers, which are for {names}."

    def fits(self, records: Iterable[RunRecord]) -> bool:
        """Whether some of these cells stand beside its numbers."""
        return any(self.of(record.attack, record.penalty) for record in records)

    def describe(self, records: Sequence[RunRecord]) -> str:
        """Where the numbers come from, and in what this study, which has some of their cells, is set up otherwise; a sentence
        or several."""
        beside = [record for record in records if self.of(record.attack, record.penalty)]
        config = flat(beside[0].config)
        other = [f"{key}={config.get(key)}" for key, value in self.setup.items() if str(config.get(key)) != str(value)]
        entries = {entry.method: entry for record in beside for entry in self.of(record.attack, record.penalty)}
        notes = [f"{entry.method}: {entry.note}" for entry in entries.values() if entry.note]
        spread = f"; ± over {self.spread_over}" if self.spread_over else ""
        said = f"{self.paper}: {self.about}{spread}. Source: {self.source}."
        differs = (
            f" This study has {', '.join(other)}: not the paper's setup, so that only the order compares." if other else ""
        )
        return " ".join([said + differs, *notes])


def load(names: Iterable[str], folder: Path | None = None) -> list[Published]:
    """The published numbers of these names.

    Args:
        folder: where their files lie; None: conf/report/published.

    Raises:
        ValueError: there are none of such a name, or a file is wrong; the message says which, and what is in it.
    """
    folder = folder or Path(CONF) / "report" / "published"
    return [_read(folder / f"{name}.yaml") for name in names]


def _read(path: Path) -> Published:
    if not path.is_file():
        there = ", ".join(sorted(other.stem for other in path.parent.glob("*.yaml")))
        raise ValueError(f"table.published: there is no {path.stem}; there are {there or 'none'}")
    values: Any = OmegaConf.to_container(OmegaConf.load(path))
    try:
        paper = Published.model_validate({"name": path.stem} | values)
    except (ValidationError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    return paper
