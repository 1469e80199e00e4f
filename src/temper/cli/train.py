"""temper-train: train and evaluate one run, or with -m a grid of runs."""

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
    """Run temper-train as a command."""
    register_resolvers()
    # Hydra requires all overrides to be adjacent, so -m goes first.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
    entry.run(task)


@hydra.main(version_base="1.3", config_path=CONF, config_name="train")
def task(config: DictConfig) -> None:
    """Execute a single run, or one job of a sweep.

    A job of a sweep that fails writes its error to its record and does not stop the sweep.
    """
    from temper.cli.run import describe, run  # these import torch
    from temper.config.run_config import parse
    from temper.runs.identity import RunIdentity

    hydra_config = HydraConfig.get()
    folder, alone = Path(hydra_config.runtime.output_dir), hydra_config.mode != RunMode.MULTIRUN
    if alone and "slurm" in str(hydra_config.launcher.get("_target_", "")).lower():
        log.warning("warning: hydra/launcher has no effect on a single run, which runs here. Add -m to submit it to SLURM.")
    parsed = parse(config)
    identity = RunIdentity.of(parsed, folder)
    if parsed.dry_run:
        describe(parsed, identity)
        return
    try:
        run(parsed, identity, alone=alone)
    except (LockHeld, LockLost) as error:
        if alone:
            raise
        log.info("%s", error)  # the sweep waits for the process that holds the lock


if __name__ == "__main__":
    main()
