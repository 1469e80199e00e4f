"""temper-report: make the report of a study again from its records."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from temper import cli
from temper.config import CONF, study_folder


def main() -> None:
    cli.run(task)


@hydra.main(version_base="1.3", config_path=CONF, config_name="report")
def task(config: DictConfig) -> None:
    from temper.progress import say
    from temper.report import make_report

    study = study_folder(config)
    for line in make_report(study, Path(config.paths.results) / str(config.study), settings=config):
        say(line)
