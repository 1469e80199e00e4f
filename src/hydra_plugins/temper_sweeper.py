"""The hook by which Hydra finds temper's sweeper; what it does is told in `temper.sweep` and `temper.tuning`."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class TemperSweeper(Sweeper):
    """Decides which cells run; Hydra's launchers decide where.

    Args:
        params: axes of the sweep, by key; overridden one by one on the command line.
        tune: the strengths and seeds by which every cell is tuned first; None: the strengths stand as they are.
    """

    def __init__(self, params: dict[str, str] | None = None, tune: Any = None) -> None:
        self.params = dict(params or {})
        self.tune: Any = OmegaConf.to_container(tune, resolve=True) if OmegaConf.is_config(tune) else tune

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from temper.sweep import sweep
        from temper.tuning import tune_and_sweep

        assert self.config is not None and self.hydra_context is not None and self.launcher is not None
        axes = [f"{key}={value}" for key, value in self.params.items()]
        stage = (self.config, self.hydra_context.config_loader, self.launcher, [*axes, *arguments])
        return sweep(*stage) if self.tune is None else tune_and_sweep(*stage, self.tune)
