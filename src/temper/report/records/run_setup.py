"""How the runs of a study were set up, as far as a command for more of them has to say it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from omegaconf import OmegaConf

from temper.report.records.baseline import baseline_of
from temper.report.records.load import folder_of
from temper.report.records.long_format import evaluations_of
from temper.runs.record import RunRecord

OVERRIDES = Path(".hydra") / "overrides.yaml"
NAMED = ("attack=", "penalty=", "seed=", "study=")  # what such a command names itself
# Penalties and suites that need images. (AutoAttack, in `full`, is defined for values in [0, 1].)
IMAGES_ALONE = {"rotation", "cutout", "cutmix", "crop_flip", "corruptions", "full"}


class Setup(NamedTuple):
    """What runs have in common.

    Attributes:
        overrides: with which they were started, the axes, the seed and the study apart.
        norm: of their evaluation.
        images: whether they learned from images.
        baseline: penalties that all of them have and are not named by.
    """

    overrides: tuple[str, ...] = ()
    norm: str = "linf"
    images: bool = True
    baseline: tuple[str, ...] = ()

    @classmethod
    def of(cls, records: Sequence[RunRecord], studies: Sequence[Path], suite: str) -> Self:
        """Of finished runs that were evaluated by this suite and lie in these folders; what they differ in is left out. Seeds
        of one cell differ in nothing that would be said."""
        cells = {record.digest: record for record in records}
        folders = (folder_of(record, studies) for record in cells.values())
        first, *others = [overrides_of(folder) if folder else None for folder in folders] or [None]
        shared = [override for override in first or () if all(override in (other or ()) for other in others)]
        norms = {record.evaluations[key]["suite"]["norm"] for record in records for key in evaluations_of(record, suite)}
        shapes = {len(record.config["data"].get("shape") or "CHW") for record in records}
        return cls(
            tuple(override for override in shared if not override.startswith(NAMED)),
            norms.pop() if len(norms) == 1 else "linf",
            shapes == {3},
            tuple(baseline_of(records)),
        )

    def suits(self, name: str) -> bool:
        """Whether a penalty (or several, joined by " + ") or an evaluation suite goes with such data."""
        return self.images or IMAGES_ALONE.isdisjoint(name.split(" + "))


def overrides_of(folder: Path) -> list[str] | None:
    """With which a run was started; None where its folder does not tell."""
    try:
        return [str(override) for override in OmegaConf.load(folder / OVERRIDES)]
    except (OSError, ValueError):
        return None
