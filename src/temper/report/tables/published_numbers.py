"""Published numbers for comparison with measured ones, read from conf/report/published."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, ValidationError

from temper.config.composed import CONF, flat
from temper.report.records.cell_names import drop_penalties, penalty_names
from temper.report.statistics.mean_and_sd import MeanAndSd
from temper.report.statistics.metric_catalogue import describe_metric
from temper.runs.record import RunRecord

SELECTED_ON_TEST = "†"
LEGEND = f"{SELECTED_ON_TEST} the paper selected this checkpoint on the test set, so the value is optimistic."


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PublishedValue(_Data):
    """One number of a paper.

    Attributes:
        metric, checkpoint: as named in runs.csv.
        value: in the unit of the tables: percent, seconds, …
        sd: standard deviation; `PublishedPaper.spread_over` says over what.
        selected_on_test: the checkpoint is the one with the best result on the test set.
    """

    metric: str
    checkpoint: Literal["best", "last", "run"] = "last"
    value: float
    sd: float | None = None
    selected_on_test: bool = False

    def mean_and_sd(self, runs: int) -> MeanAndSd:
        """Return the value in the unit of a record, with its standard deviation."""
        factor = describe_metric(self.metric).factor
        return MeanAndSd(self.value / factor, float("nan") if self.sd is None else self.sd / factor, runs)


class PublishedMethod(_Data):
    """One method of a paper.

    Attributes:
        method: name of the method in the paper.
        attack, penalties: cells that the method is compared with.
        note: remark that a reader of these numbers needs.
    """

    method: str
    attack: str
    penalties: list[str]
    values: list[PublishedValue]
    note: str = ""

    def value(self, metric: str, checkpoint: str) -> PublishedValue | None:
        """Return the value of a metric at a checkpoint, or None."""
        return next((v for v in self.values if (v.metric, v.checkpoint) == (metric, checkpoint)), None)


class PublishedPaper(_Data):
    """Numbers of one paper.

    Attributes:
        name: file name without its suffix.
        paper: short reference shown to readers.
        cite: key in references.bib.
        source: where exactly the numbers were published.
        setup: values of the paper's training, by config key.
        about: further remarks on the paper's training.
        runs: number of seeds.
        spread_over: what the standard deviations are over, if there are any.
        entries: methods of the paper.
    """

    name: str
    paper: str
    cite: str
    source: str
    setup: dict[str, str | int | float]
    about: str
    runs: int
    spread_over: str = ""
    entries: list[PublishedMethod]

    def methods_for(self, attack: str, penalty: str) -> list[PublishedMethod]:
        """Return the methods that are compared with a cell."""
        return [entry for entry in self.entries if entry.attack == attack and penalty in entry.penalties]

    def relative_to(self, baseline: Sequence[str]) -> "PublishedPaper":
        """Return a copy whose penalties are named without those of a baseline, as the cells of the study are."""
        if not baseline:
            return self
        names = tuple(baseline)
        entries = [
            entry.model_copy(
                update={"penalties": [drop_penalties(p, names) for p in entry.penalties if penalty_names(p).issuperset(names)]}
            )
            for entry in self.entries
        ]
        return self.model_copy(update={"entries": entries})

    def matches_any(self, records: Iterable[RunRecord]) -> bool:
        """Return True if some cell of these runs is compared with this paper."""
        return any(self.methods_for(record.attack, record.penalty) for record in records)

    def unmatched_note(self) -> str:
        """Return the note for a study without a cell that is compared with this paper."""
        names = ", ".join(dict.fromkeys(f"{entry.attack} x {max(entry.penalties, key=len)}" for entry in self.entries))
        return f"{self.paper}: no cell of this study corresponds to its numbers, which are for {names}."

    def describe(self, records: Sequence[RunRecord]) -> str:
        """Return sentences on the source of the numbers, and on differences between the setup of the paper and the study.

        Args:
            records: runs of the study; at least one corresponds to a method of the paper.
        """
        matching = [record for record in records if self.methods_for(record.attack, record.penalty)]
        config = flat(matching[0].config)
        different = [f"{key}={config.get(key)}" for key, value in self.setup.items() if str(config.get(key)) != str(value)]
        methods = {m.method: m for record in matching for m in self.methods_for(record.attack, record.penalty)}
        notes = [f"{entry.method}: {entry.note}" for entry in methods.values() if entry.note]
        spread = f"; ± over {self.spread_over}" if self.spread_over else ""
        sentences = [f"{self.paper}: {self.about}{spread}.", f"Source: {self.source}."]
        if different:
            sentences.append(
                f"This study has {', '.join(different)}, unlike the paper, so only the order of the methods is comparable."
            )
        return " ".join([*sentences, *notes])


def load(names: Iterable[str], folder: Path | None = None) -> list[PublishedPaper]:
    """Load the published numbers of these names.

    Args:
        names: file names without suffix.
        folder: folder of the YAML files; None: conf/report/published.

    Raises:
        ValueError: A file does not exist or is invalid.
    """
    folder = folder or Path(CONF) / "report" / "published"
    return [_read(folder / f"{name}.yaml") for name in names]


def _read(path: Path) -> PublishedPaper:
    if not path.is_file():
        available = ", ".join(sorted(other.stem for other in path.parent.glob("*.yaml")))
        raise ValueError(f"table.published: {path.stem} does not exist. Available: {available or 'none'}.")
    values: Any = OmegaConf.to_container(OmegaConf.load(path))
    try:
        return PublishedPaper.model_validate({"name": path.stem} | values)
    except (ValidationError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
