"""The hook by which Hydra finds temper's sweeper; what it does is told in `temper.sweep`."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class TemperSweeper(Sweeper):
    """Decides which cells run; Hydra's launchers decide where.

    Args:
        params: axes of the sweep, by key; overridden one by one on the command line.
    """

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from temper.sweep import sweep

        assert self.config is not None and self.hydra_context is not None and self.launcher is not None
        axes = [f"{key}={value}" for key, value in self.params.items()]
        return sweep(self.config, self.hydra_context.config_loader, self.launcher, [*axes, *arguments])
