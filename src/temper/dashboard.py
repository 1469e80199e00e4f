"""temper-dashboard: the W&B report and workspace of a study, published, or written down where there is no login."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from temper import cli
from temper.config import CONF, ConfigError


def main() -> None:
    cli.run(task)


@hydra.main(version_base="1.3", config_path=CONF, config_name="dashboard")
def task(config: DictConfig) -> None:
    from temper.mirror.dashboard import make_dashboard
    from temper.progress import say

    study = Path(config.paths.outputs) / str(config.study)
    if not study.is_dir():
        there = sorted(path.name for path in study.parent.iterdir() if path.is_dir()) if study.parent.is_dir() else []
        raise ConfigError(f"study={config.study}: there is no {study}; studies in {study.parent}: {', '.join(there) or 'none'}")
    for line in make_dashboard(study, Path(config.paths.results) / study.name / "dashboard", settings=config):
        say(line)


if __name__ == "__main__":
    main()
