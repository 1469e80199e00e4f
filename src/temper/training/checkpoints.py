"""Checkpoints of a run: which ones are kept, how they are written, and from which one an interrupted run resumes."""

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from temper.runs.atomic_files import atomic_write, set_aside
from temper.runs.identity import RunIdentity

log = logging.getLogger("temper")


def checkpoint_callbacks(folder: Path, monitor: str) -> list[Callback]:
    """Return the callbacks that save best.ckpt, by validation performance, and last.ckpt, after every epoch.

    The order matters: with last.ckpt first, it would hold a stale best score, and a resumed run would overwrite a better
    best.ckpt.

    Args:
        folder: folder of the checkpoints.
        monitor: the metric, to be maximized, that selects best.ckpt.
    """
    best = ModelCheckpoint(folder, "best", monitor=monitor, mode="max", enable_version_counter=False)
    last = ModelCheckpoint(folder, "last", monitor=None, save_top_k=1, enable_version_counter=False)
    return [best, last]


class SaveIdentity(Callback):
    """Save in every checkpoint which run it belongs to and which code wrote it: a run is resumed from nothing else.

    Args:
        identity: of the run.
    """

    def __init__(self, identity: RunIdentity) -> None:
        self.identity = identity

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["code"] = self.identity.code
        checkpoint["run"] = {"digest": self.identity.cell.digest, "seed": self.identity.seed}


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint plugin that writes atomically.

    Lightning's own plugin moves checkpoints from the temporary folder, which leaves half a file if the process is killed while
    the move crosses file systems.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part:
            try:
                torch.save(checkpoint, part)
            except RuntimeError as error:  # torch reports a full disk as a RuntimeError
                raise OSError(f"{path} could not be written. Is the disk full? ({str(error).splitlines()[0]})") from error


def checkpoint_to_resume(identity: RunIdentity, ckpt_path: str | None) -> str | None:
    """Return the checkpoint from which training starts, or None to start from scratch.

    It is last.ckpt if this run was interrupted under the same code, else `ckpt_path`. Checkpoints of other code or of
    another run, and damaged ones, are set aside.

    Args:
        identity: of the run.
        ckpt_path: of the config.
    """
    checkpoints = identity.folder / "checkpoints"
    last, best = checkpoints / "last.ckpt", checkpoints / "best.ckpt"
    if last.exists():
        path, reason = last, "stale"
        try:
            for path in (best, last):
                state = torch.load(path, map_location="cpu", weights_only=True)
            own = {"digest": identity.cell.digest, "seed": identity.seed}
            if state["code"] == identity.code and state["run"] == own:
                log.info("resuming from %s", last)
                return str(last)
            if state.get("run", own) != own:
                reason = "of another run"
        except Exception:  # a damaged file can make the unpickler raise anything
            reason = "damaged"
        aside = set_aside(checkpoints, reason.replace(" ", "-"))
        log.warning("warning: %s is %s; set aside as %s. Training starts from scratch.", path, reason, aside)
    return ckpt_path
