"""temper-evaluate: evaluate a run, a whole study, a checkpoint or a foreign network by any suite, into the same records."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from temper import cli
from temper.config import CONF, ConfigError

IGNORED = ("data", "model", "validation", "seed", "study")


def main() -> None:
    cli.run(task)


@hydra.main(version_base="1.3", config_path=CONF, config_name="evaluate")
def task(config: DictConfig) -> None:
    from temper.evaluating import evaluate_checkpoint, evaluate_foreign, evaluate_runs  # torch is imported only here
    from temper.records import RECORD

    if config.path is None:
        if config.transfer:
            raise ConfigError("transfer=true needs path=, the folder of a study")
        evaluate_foreign(config)
        return
    typed = {override.lstrip("+~").split("=")[0].split(".")[0] for override in HydraConfig.get().overrides.task}
    path = Path(config.path)
    inside = path.parent.name == "checkpoints" and (path.parents[1] / RECORD).is_file()
    if idle := typed & set(IGNORED[: 4 if path.suffix == ".ckpt" and not inside else 5]):
        raise ConfigError(f"{', '.join(sorted(idle))} has no effect beside path: what lies there brings its own")
    if path.is_file() and inside:
        evaluate_runs(config, [path.parents[1]], checkpoint=path.stem)
    elif path.is_file():
        evaluate_checkpoint(config, path)
    elif (path / RECORD).is_file():
        evaluate_runs(config, [path])
    elif runs := sorted(record.parent for record in path.glob(f"*/seed-*/{RECORD}")):
        evaluate_runs(config, [run for run in runs if run.name.removeprefix("seed-").lstrip("-").isdecimal()], study=path)
    else:
        raise ConfigError(f"path: {path} is no checkpoint, no folder of a run (with a {RECORD}), and none of a study")


if __name__ == "__main__":
    main()
