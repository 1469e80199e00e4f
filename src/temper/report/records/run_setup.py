"""Setup shared by the runs of a study, as overrides for commands that add runs to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from omegaconf import OmegaConf

from temper.report.records.baseline import baseline_penalties
from temper.report.records.load import find_run_folder
from temper.report.records.long_format import evaluation_keys
from temper.runs.record import RunRecord

OVERRIDES = Path(".hydra") / "overrides.yaml"
EXCLUDED = ("attack=", "penalty=", "seed=", "study=")  # overrides that each command sets anew
# Penalties and suites that need images. (AutoAttack, in `full`, is defined for values in [0, 1].)
IMAGE_ONLY = {"rotation", "cutout", "cutmix", "crop_flip", "corruptions", "full"}


class RunSetup(NamedTuple):
    """Setup that the runs of a study have in common.

    Attributes:
        overrides: overrides that all runs were started with, except axes, seed and study.
        norm: threat norm of their evaluation.
        images: whether they were trained on images.
        baseline: penalties that all runs have and that their names omit.
    """

    overrides: tuple[str, ...] = ()
    norm: str = "linf"
    images: bool = True
    baseline: tuple[str, ...] = ()

    @classmethod
    def of(cls, records: Sequence[RunRecord], studies: Sequence[Path], suite: str) -> Self:
        """Collect the setup from one run of each cell; seeds of a cell do not differ in it.

        Args:
            records: finished runs that were evaluated by the suite.
            studies: folders of the studies that contain the runs.
            suite: name of the evaluation suite.
        """
        cells = {record.digest: record for record in records}
        folders = (find_run_folder(record, studies) for record in cells.values())
        first, *others = [read_overrides(folder) if folder else None for folder in folders] or [None]
        shared = [override for override in first or () if all(override in (other or ()) for other in others)]
        norms = {record.evaluations[key]["suite"]["norm"] for record in records for key in evaluation_keys(record, suite)}
        dimensions = {len(record.config["data"].get("shape") or "CHW") for record in records}
        return cls(
            tuple(override for override in shared if not override.startswith(EXCLUDED)),
            norms.pop() if len(norms) == 1 else "linf",
            dimensions == {3},
            tuple(baseline_penalties(records)),
        )

    def supports(self, name: str) -> bool:
        """Return whether a penalty (or several, joined by " + ") or an evaluation suite is defined for these data."""
        return self.images or IMAGE_ONLY.isdisjoint(name.split(" + "))


def read_overrides(folder: Path) -> list[str] | None:
    """Return the overrides that a run was started with; None if its folder has no readable list of them."""
    try:
        return [str(override) for override in OmegaConf.load(folder / OVERRIDES)]
    except (OSError, ValueError):
        return None
