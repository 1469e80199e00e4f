"""Cells of a grid: what all runs have in common that differ in their seed alone."""

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from temper.config.errors import ConfigError

if TYPE_CHECKING:  # reading records needs no parser
    from temper.config.run_config import RunConfig

# Root keys that cannot change the trained network, or are coordinates of their own (the seed). A run may be evaluated again
# by another suite; where training depends on the suite (the validation attack), its values are in other keys.
NOT_IDENTITY = (
    "hydra",
    "seed",
    "study",
    "paths",
    "logger",
    "threads",
    "runs_per_gpu",
    "dry_run",
    "stale",
    "keep_checkpoints",
    "published",
    "evaluation",
    "vars",
)


def identity(run: "RunConfig") -> dict[str, Any]:
    """Return every setting that can change the trained network, as plain values; the seed is apart.

    A checkpoint that training starts from counts by its content.

    Raises:
        ConfigError: `ckpt_path` names no file.
    """
    content = identity_settings(run.plain())
    if run.ckpt_path is not None:
        content["ckpt_path"] = file_digest(run.ckpt_path)
    return content


def identity_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same of the plain values that a record holds."""
    content = {key: _copied(value) for key, value in values.items() if key not in NOT_IDENTITY}
    data, model = content.get("data", {}), content.get("model", {})
    source = data.get("source", {})
    # Where a data set is located, and whether it may be downloaded, is not part of its identity.
    for key in ("root", "download"):
        source.pop(key, None)
    if isinstance(source.get("openml"), dict):
        source["openml"] = source["openml"].get(source.get("path"))
    # Threats that no attack refers to have no effect; one that is referred to is in the attack's own settings.
    data.pop("threats", None)
    # Settings that came later: at their default they name the same folder as without them.
    if not model.get("compile"):
        model.pop("compile", None)
    if model.get("channels_last") is None:
        model.pop("channels_last", None)
    if data.get("tokenizer") is None:
        data.pop("tokenizer", None)
        source.pop("tokenizer", None)
    if not content.get("penalty"):
        content["strength"] = 1.0
    return content


def _copied(value: Any) -> Any:
    return {key: _copied(own) for key, own in value.items()} if isinstance(value, Mapping) else value


def file_digest(path: str) -> str:
    """Return the digest of a file's content.

    Raises:
        ConfigError: there is no such file.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"ckpt_path={path}: there is no such file. Name a checkpoint, such as a last.ckpt of another run.")
    stat = file.stat()
    return _file_digest(str(file.resolve()), stat.st_mtime_ns, stat.st_size)


@lru_cache
def _file_digest(path: str, modified: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def data_name(source: Mapping[str, Any]) -> str:
    """Return the name of a data set by the settings of its source: torchvision's name, the file or folder, or the class."""
    if name := source.get("name"):
        return str(name)
    kind = str(source.get("_target_", "unknown data")).rpartition(".")[2]
    where = source.get("path") or (source.get("root") if kind == "ImageFolder" else None)
    return Path(str(where)).name.partition(".")[0] if where else kind


class Kind(StrEnum):
    """The four kinds of training, the quadrants of attack x penalty; and networks that were trained elsewhere."""

    STANDARD = "standard"
    ADVERSARIAL = "adversarial"
    REGULARIZED = "regularized"
    COMBINED = "combined"
    EXTERNAL = "external"

    @classmethod
    def of(cls, *, attacked: bool, penalized: bool) -> Self:
        """Return the quadrant of a run with an attack other than `none`, and with at least one penalty."""
        return cls(("standard", "regularized", "adversarial", "combined")[2 * attacked + penalized])


class Cell(NamedTuple):
    """A cell of the grid.

    Attributes:
        attack: name of the training attack.
        penalty: names of the penalties, sorted and joined by " + ", or "none".
        kind: the quadrant.
        digest: of every setting that can change the trained network, the seed and paths apart.
    """

    attack: str
    penalty: str
    kind: Kind
    digest: str

    @classmethod
    def of(cls, run: "RunConfig") -> Self:
        """Return the cell of a run.

        Raises:
            ConfigError: `ckpt_path` names no file.
        """
        penalties = sorted(run.penalty)
        digest = hashlib.sha256(json.dumps(identity(run), sort_keys=True).encode()).hexdigest()[:8]
        attacked = run.attack.target != "temper.attacks.NoAttack"
        return cls(
            attack=run.attack.get("name") or run.attack.target.rpartition(".")[2].lower(),
            penalty=" + ".join(penalties) or "none",
            kind=Kind.of(attacked=attacked, penalized=bool(penalties)),
            digest=digest,
        )

    @property
    def name(self) -> str:
        """Name of the cell's folder, such as `pgd+dropout+l2-3f9a1c20`, the same in whatever order penalties were typed."""
        return f"{self.attack}+{self.penalty.replace(' + ', '+')}-{self.digest}"


def run_folder(run: "RunConfig", cell: Cell | None = None) -> Path:
    """Return the folder of a run, named by content, so that no two runs collide.

    Args:
        run: the run.
        cell: its cell, if it is known already.
    """
    return Path(run.paths.outputs) / run.study / (cell or Cell.of(run)).name / f"seed-{run.seed}"
