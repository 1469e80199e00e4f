"""Checkpoints that are whole or not there."""

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


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own moves checkpoints from the temporary folder: across file systems a kill leaves half a file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part:
            try:
                torch.save(checkpoint, part)
            except RuntimeError as error:  # torch's own word for a full disk
                raise OSError(f"{path} could not be written; is the disk full? ({str(error).splitlines()[0]})") from error


class Provenance(Callback):
    """Notes in every checkpoint which code made it: a run is never finished by other code than began it."""

    def __init__(self, code: str) -> None:
        self.code = code

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["code"] = self.code


def checkpoint_callbacks(folder: Path, monitor: str) -> list[Callback]:
    """best.ckpt by `monitor` on the validation split, last.ckpt after every epoch; best comes first, or last.ckpt would hold a
    stale best score and a resumed run would overwrite the better best.ckpt."""
    best = ModelCheckpoint(folder, "best", monitor=monitor, mode="max", enable_version_counter=False)
    last = ModelCheckpoint(folder, "last", monitor=None, save_top_k=1, enable_version_counter=False)
    return [best, last]


def checkpoint_to_resume(config: DictConfig, checkpoints: Path, code: str) -> str | None:
    """last.ckpt of an interrupted run of the same code, else the checkpoint that the user named."""
    last, best = checkpoints / "last.ckpt", checkpoints / "best.ckpt"
    if last.exists():
        path, why = last, "stale"
        try:
            for path in (best, last):
                made_by = torch.load(path, map_location="cpu", weights_only=True)["code"]
            if made_by == code:
                log.info("resuming from %s", last)
                return str(last)
        except Exception:  # whatever a damaged file makes the unpickler raise
            why = "damaged"
        log.warning("warning: %s is %s; set aside as %s, training starts anew", path, why, set_aside(checkpoints, why))
    return config.ckpt_path
