"""Checks of the plain config values that no class takes as arguments."""

import re
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import StrictBool, TypeAdapter, ValidationError

from temper.config.errors import ConfigError, explain_arguments
from temper.config.resolvers import workers
from temper.config.types import Count, NonNegative

Names = list[Literal["best", "last"]]
SETTINGS: dict[str, Any] = {
    "seed": int,
    "strength": NonNegative,
    "threads": Count,
    "stale": Literal["ask", "keep", "rerun"],
    "keep_checkpoints": Names,
    "evaluation.checkpoints": Names,  # none: the test set stays untouched
    "evaluation.batch_size": Count,
    "trainer.max_epochs": Count,
    "model.compile": Literal[False, True, "cuda_graphs", None],
    "model.channels_last": StrictBool | None,
}
KINDS = {key: TypeAdapter(kind) for key, kind in SETTINGS.items()}


def validate_settings(config: DictConfig) -> None:
    """Check the plain values that no class takes as arguments.

    Raises:
        ConfigError: naming the key.
    """
    for key in SETTINGS:
        if key.partition(".")[0] in config:  # temper-evaluate asks for less
            _validate_setting(config, key)
    workers(config.trainer.accelerator, config.runs_per_gpu)
    if not re.fullmatch(r"[\w+-][\w.+-]*", str(config.get("study", "x"))):
        raise ConfigError(
            f"study={config.study}: should be a plain name of letters, digits and _ . + -, since it names a folder."
        )
    if config.get("ckpt_path") is not None and not Path(config.ckpt_path).is_file():
        raise ConfigError(f"ckpt_path={config.ckpt_path}: the file does not exist.")
    if str(config.trainer.precision).endswith("-true") and config.trainer.precision != "32-true":
        raise ConfigError(f"trainer.precision={config.trainer.precision}: weights stay in float32. Use bf16-mixed or 16-mixed.")


def validate_seed(config: DictConfig) -> None:
    """Check the seed, the one setting in which the runs of a cell differ.

    Raises:
        ConfigError: it is no whole number.
    """
    _validate_setting(config, "seed")


def _validate_setting(config: DictConfig, key: str) -> None:
    value = OmegaConf.select(config, key)
    try:
        KINDS[key].validate_python(OmegaConf.to_container(value) if OmegaConf.is_config(value) else value)
    except ValidationError as error:
        raise ConfigError("\n".join(explain_arguments(error, key))) from None
