"""temper-train: train one run against an attack, under a penalty; evaluate it; leave a record. With -m: a whole grid."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from temper import cli
from temper.config import CONF
from temper.resolvers import register_resolvers


def main() -> None:
    register_resolvers()
    cli.run(task)


@hydra.main(version_base="1.3", config_path=CONF, config_name="train")
def task(config: DictConfig) -> None:
    """One run, on its own or as a job of a sweep: a job that fails leaves a record that says why, and the sweep goes on."""
    from temper.run import describe, run  # torch is imported only where something is run

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if config.dry_run:
        describe(config, folder)
    else:
        run(config, folder, alone=hydra_config.mode != RunMode.MULTIRUN)


if __name__ == "__main__":
    main()
