"""temper-report: make the report of a study again from its records."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from temper import cli
from temper.config import CONF, ConfigError


def main() -> None:
    cli.run(task)


@hydra.main(version_base="1.3", config_path=CONF, config_name="report")
def task(config: DictConfig) -> None:
    from temper.progress import say
    from temper.report import make_report

    study = Path(config.paths.outputs) / str(config.study)
    if not study.is_dir():
        there = sorted(path.name for path in study.parent.iterdir() if path.is_dir()) if study.parent.is_dir() else []
        raise ConfigError(f"study={config.study}: there is no {study}; studies in {study.parent}: {', '.join(there) or 'none'}")
    for line in make_report(study, Path(config.paths.results) / str(config.study), settings=config):
        say(line)
