"""temper-dashboard: publish the W&B report and workspace of a study, or write them to files if there is no login."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from temper.cli import entry
from temper.config.composed import CONF, study_folder


def main() -> None:
    """Run temper-dashboard as a command."""
    entry.run(task)


@hydra.main(version_base="1.3", config_path=CONF, config_name="dashboard")
def task(config: DictConfig) -> None:
    """Publish the dashboard of a study, or write it to files."""
    from temper.report.wandb_dashboard import make_dashboard
    from temper.runs.terminal import say

    study = study_folder(config)
    for line in make_dashboard(study, Path(config.paths.results) / study.name / "dashboard", settings=config):
        say(line)


if __name__ == "__main__":
    main()
