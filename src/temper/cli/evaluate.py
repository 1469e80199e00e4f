"""temper-evaluate: evaluate a run, a whole study, a checkpoint or a foreign network by any suite, into the same records."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from temper.cli import entry
from temper.config.composed import CONF
from temper.config.errors import ConfigError

# What lies at `path` brings its own; a checkpoint outside of a run's folder needs a study to go to.
OWN = {"data", "model", "validation", "seed"}


def main() -> None:
    entry.run(task)


@hydra.main(version_base="1.3", config_path=CONF, config_name="evaluate")
def task(config: DictConfig) -> None:
    from temper.cli.reevaluate import evaluate_checkpoint, evaluate_foreign, evaluate_runs  # torch is imported only here
    from temper.config.settings import validate_settings
    from temper.runs.record import RECORD

    validate_settings(config)
    if not config.evaluation.checkpoints:
        raise ConfigError("evaluation.checkpoints is empty: say which to evaluate, [best], [last] or [best,last]")
    typed = {override.lstrip("+~").split("=")[0] for override in HydraConfig.get().overrides.task}
    if idle := {key for key in typed if key.startswith("trainer.") and key != "trainer.accelerator"}:
        raise ConfigError(f"{', '.join(sorted(idle))} has no effect: nothing is trained")
    if config.stale == "rerun":
        raise ConfigError("stale=rerun: temper-train trains again; here runs of other code are kept or asked about")
    if config.path is None:
        if config.transfer:
            raise ConfigError("transfer=true needs path=, the folder of a study")
        evaluate_foreign(config)
        return
    path = Path(config.path).resolve()
    inside = path.parent.name == "checkpoints" and (path.parents[1] / RECORD).is_file()
    if idle := {key.split(".")[0] for key in typed} & (OWN | ({"study"} if inside or path.is_dir() else set())):
        raise ConfigError(f"{', '.join(sorted(idle))} has no effect beside path: what lies there brings its own")
    runs = sorted(record.parent for record in path.glob(f"*/seed-*/{RECORD}"))
    if config.transfer and not runs:
        raise ConfigError("transfer=true needs path=, the folder of a study")
    if path.is_file() and inside:
        evaluate_runs(config, [path.parents[1]], checkpoint=path.stem)
    elif path.is_file():
        evaluate_checkpoint(config, path)
    elif (path / RECORD).is_file():
        evaluate_runs(config, [path])
    elif runs:
        evaluate_runs(config, [run for run in runs if run.name.removeprefix("seed-").lstrip("-").isdecimal()], study=path)
    else:
        raise ConfigError(f"path: {path} is no checkpoint, no folder of a run (with a {RECORD}), and none of a study")


if __name__ == "__main__":
    main()
