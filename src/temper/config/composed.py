"""The composed config as plain values; imports nothing heavy, so that every command may use it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from temper.config.errors import ConfigError

HERE = Path(__file__).resolve().parent
# At the top of the repository in a checkout, next to the package in a wheel.
CONF = str(next(path for path in (HERE.parents[2] / "conf", HERE.parent / "conf") if path.is_dir()))


def plain(config: DictConfig, *, without: tuple[str, ...] = ("hydra",)) -> dict[str, Any]:
    """Return the config as plain, resolved values, as stored in records and checkpoints.

    Keys are skipped before anything is resolved, since resolving Hydra's own would recurse.
    """
    values = {str(key): config[key] for key in config if key not in without}
    return {key: OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v for key, v in values.items()}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested config as one mapping with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def study_folder(config: DictConfig) -> Path:
    """Return the folder of the study that a config names.

    Raises:
        ConfigError: it does not exist; the message names the studies that do.
    """
    return _folder(config, config.study)


def study_folders(config: DictConfig) -> list[Path]:
    """Return the folders of the studies, one or several, that a config names, each once.

    Raises:
        ConfigError: one does not exist, or none is named; the message names the studies that do.
    """
    names = config.study if OmegaConf.is_list(config.study) else [config.study]
    if not names:
        raise ConfigError("study=[]: no study is named. Name one, study=a, or several, study=[a,b].")
    return [_folder(config, name) for name in dict.fromkeys(map(str, names))]


def _folder(config: DictConfig, name: object) -> Path:
    study = Path(config.paths.outputs) / str(name)
    if not study.is_dir():
        existing = sorted(path.name for path in study.parent.iterdir() if path.is_dir()) if study.parent.is_dir() else []
        raise ConfigError(
            f"study={name}: folder {study} does not exist. Studies in {study.parent}: {', '.join(existing) or 'none'}."
        )
    return study
