"""Checkpoints of a run: which ones are kept, how they are written, and from which one an interrupted run resumes."""

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from temper.runs.atomic_files import atomic_write, set_aside

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


class SaveCodeDigest(Callback):
    """Save the code digest in every checkpoint, so that no run is resumed by different code.

    Args:
        code: digest of the present code.
    """

    def __init__(self, code: str) -> None:
        self.code = code

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["code"] = self.code


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


def checkpoint_to_resume(config: DictConfig, checkpoints: Path, code: str) -> str | None:
    """Return the checkpoint from which training starts, or None to start from scratch.

    It is last.ckpt if the run was interrupted under the same code, else `ckpt_path` of the config. Stale and damaged
    checkpoints are set aside.

    Args:
        config: the run's config.
        checkpoints: folder of the run's checkpoints.
        code: digest of the present code.
    """
    last, best = checkpoints / "last.ckpt", checkpoints / "best.ckpt"
    if last.exists():
        path, reason = last, "stale"
        try:
            for path in (best, last):
                saved_by = torch.load(path, map_location="cpu", weights_only=True)["code"]
            if saved_by == code:
                log.info("resuming from %s", last)
                return str(last)
        except Exception:  # a damaged file can make the unpickler raise anything
            reason = "damaged"
        aside = set_aside(checkpoints, reason)
        log.warning("warning: %s is %s; set aside as %s. Training starts from scratch.", path, reason, aside)
    return config.ckpt_path
