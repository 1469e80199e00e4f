"""Hydra plugin that registers temper's sweeper.

It is implemented in `temper.sweeps.sweep`, `temper.sweeps.tuning` and `temper.sweeps.search`.
"""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class TemperSweeper(Sweeper):
    """Sweeper that decides which cells run; Hydra's launchers decide where.

    Args:
        params: axes of the sweep, by key; the command line overrides them individually.
        tune: strengths and seeds with which every cell is tuned first; None: no tuning.
        search: trials, seeds and sampler of a search over the axes; None: all combinations run.
    """

    def __init__(self, params: dict[str, str] | None = None, tune: Any = None, search: Any = None) -> None:
        self.params = dict(params or {})
        self.tune, self.search = _plain(tune), _plain(search)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from temper.config.errors import ConfigError
        from temper.sweeps.sweep import sweep
        from temper.sweeps.tuning import tune_and_sweep

        assert self.config is not None and self.hydra_context is not None and self.launcher is not None
        axes = [f"{key}={value}" for key, value in self.params.items()]
        stage = (self.config, self.hydra_context.config_loader, self.launcher, [*axes, *arguments])
        if self.search is None:
            return sweep(*stage) if self.tune is None else tune_and_sweep(*stage, self.tune)
        if self.tune is not None:
            raise ConfigError("hydra.sweeper.tune and hydra.sweeper.search: exclude each other. Set one of them to null.")
        try:
            from temper.sweeps.search import search_and_report
        except ModuleNotFoundError as error:
            if error.name != "optuna":
                raise
            raise ConfigError("hydra.sweeper.search: needs Optuna. Run pip install 'temper[search]'.") from None
        return search_and_report(*stage, self.search)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
