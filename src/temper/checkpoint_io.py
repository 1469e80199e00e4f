"""Checkpoints that are whole or not there."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from temper.storage import written_whole


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's own moves checkpoints from the temporary folder: across file systems a kill leaves half a file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as part:
            try:
                torch.save(checkpoint, part)
            except RuntimeError as error:  # torch's own word for a full disk
                raise OSError(f"{path} could not be written; is the disk full? ({str(error).splitlines()[0]})") from error
