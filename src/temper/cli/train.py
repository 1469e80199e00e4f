"""temper-train: train one run against an attack, under a penalty; evaluate it; leave a record. With -m: a whole grid."""

import logging
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from temper.cli import entry
from temper.config.composed import CONF
from temper.config.resolvers import register_resolvers
from temper.runs.lock import LockHeld, LockLost

log = logging.getLogger("temper")


def main() -> None:
    register_resolvers()
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))  # Hydra wants it first
    entry.run(task)


@hydra.main(version_base="1.3", config_path=CONF, config_name="train")
def task(config: DictConfig) -> None:
    """One run, on its own or as a job of a sweep: a job that fails leaves a record that says why, and the sweep goes on."""
    from temper.cli.run import describe, run  # torch is imported only where something is run

    hydra_config = HydraConfig.get()
    folder, alone = Path(hydra_config.runtime.output_dir), hydra_config.mode != RunMode.MULTIRUN
    if alone and "slurm" in str(hydra_config.launcher.get("_target_", "")).lower():
        log.warning("warning: a single run is not submitted, it runs here: hydra/launcher is for sweeps; add -m")
    if config.dry_run:
        describe(config, folder)
        return
    try:
        run(config, folder, alone=alone)
    except (LockHeld, LockLost) as other:
        if alone:
            raise
        log.info("%s", other)  # the sweep waits for whoever works on it


if __name__ == "__main__":
    main()
