"""temper-evaluate: evaluate a run, a study, a checkpoint or an external network with any suite."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from temper.cli import entry
from temper.config.composed import CONF
from temper.config.errors import ConfigError

# Settings that the run or checkpoint at `path` already fixes.
FIXED_BY_PATH = {"data", "model", "validation", "seed"}


def main() -> None:
    """Run temper-evaluate as a command."""
    entry.run(task)


@hydra.main(version_base="1.3", config_path=CONF, config_name="evaluate")
def task(config: DictConfig) -> None:
    """Evaluate the runs or the checkpoint at `path`, or an external network if there is no `path`.

    Raises:
        ConfigError: a setting has no effect or `path` holds nothing to evaluate.
    """
    # These import torch.
    from temper.cli.reevaluate import evaluate_checkpoint, evaluate_external, evaluate_runs
    from temper.config.run_config import check_settings
    from temper.runs.record import RECORD

    check_settings(config)
    if not config.evaluation.checkpoints:
        raise ConfigError("evaluation.checkpoints=[]: no checkpoint is selected. Use [best], [last] or [best,last].")
    overridden = {override.lstrip("+~").split("=")[0] for override in HydraConfig.get().overrides.task}
    if ignored := {key for key in overridden if key.startswith("trainer.") and key != "trainer.accelerator"}:
        raise ConfigError(f"{', '.join(sorted(ignored))} has no effect: temper-evaluate does not train. Remove it.")
    if config.stale == "rerun":
        raise ConfigError("stale=rerun: temper-evaluate does not train. Use stale=keep, or train again with temper-train.")
    if config.path is None:
        if config.transfer:
            raise ConfigError("transfer=true: there is no study. Set path= to the folder of a study.")
        evaluate_external(config)
        return
    path = Path(config.path).resolve()
    inside_run = path.parent.name == "checkpoints" and (path.parents[1] / RECORD).is_file()
    fixed = FIXED_BY_PATH | ({"study"} if inside_run or path.is_dir() else set())
    if ignored := {key.split(".")[0] for key in overridden} & fixed:
        raise ConfigError(f"{', '.join(sorted(ignored))} has no effect with path=: the runs there fix it. Remove it.")
    runs = sorted(record.parent for record in path.glob(f"*/seed-*/{RECORD}"))
    if config.transfer and not runs:
        raise ConfigError(f"transfer=true: {path} is not a study. Set path= to the folder of a study.")
    if path.is_file() and inside_run:
        evaluate_runs(config, [path.parents[1]], checkpoint=path.stem)
    elif path.is_file():
        evaluate_checkpoint(config, path)
    elif (path / RECORD).is_file():
        evaluate_runs(config, [path])
    elif runs:
        evaluate_runs(config, [run for run in runs if run.name.removeprefix("seed-").lstrip("-").isdecimal()], study=path)
    else:
        raise ConfigError(
            f"path={path}: there is no checkpoint and no {RECORD} of a run or study. "
            "Set path= to a checkpoint, or to the folder of a run or study."
        )


if __name__ == "__main__":
    main()
