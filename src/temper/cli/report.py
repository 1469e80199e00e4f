"""temper-report: generate the report of one or several studies from their records."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from temper.cli import entry
from temper.config.composed import CONF, study_folders


def main() -> None:
    """Run temper-report as a command."""
    entry.run(task)


@hydra.main(version_base="1.3", config_path=CONF, config_name="report")
def task(config: DictConfig) -> None:
    """Generate the report of one or several studies."""
    from temper.report import make_report
    from temper.runs.terminal import say

    studies = study_folders(config)
    name = str(config.name or "+".join(study.name for study in studies))
    for line in make_report(studies, Path(config.paths.results) / name, settings=config, overrides=_arguments()):
        say(line)


def _arguments() -> list[str]:
    """Return the command-line arguments of this report, from which its page shows the command."""
    hydra_config = HydraConfig.get()
    folders = [source.path for source in hydra_config.runtime.config_sources if source.provider == "command-line"]
    return [*(part for folder in folders for part in ("--config-dir", folder)), *hydra_config.overrides.task]


if __name__ == "__main__":
    main()
