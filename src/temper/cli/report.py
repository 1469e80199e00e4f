"""temper-report: make the report of a study, or of several together, again from the records."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from temper.cli import entry
from temper.config.composed import CONF, study_folders


def main() -> None:
    entry.run(task)


@hydra.main(version_base="1.3", config_path=CONF, config_name="report")
def task(config: DictConfig) -> None:
    from temper.report import make_report
    from temper.runs.terminal import say

    studies = study_folders(config)
    name = str(config.name or "+".join(study.name for study in studies))
    for line in make_report(studies, Path(config.paths.results) / name, settings=config, typed=_typed()):
        say(line)


def _typed() -> list[str]:
    hydra_config = HydraConfig.get()
    folders = [source.path for source in hydra_config.runtime.config_sources if source.provider == "command-line"]
    return [*(part for folder in folders for part in ("--config-dir", folder)), *hydra_config.overrides.task]
