"""From the overrides of a grid to composed configs, as each job will see its own, without composing every one: Hydra takes a
quarter of a second for each, and a grid may have thousands.

Options of groups decide which files a config is made of; values are set once it is made. So runs that choose the same options
are composed once, and those that differ in nothing but their seed are one cell, looked at once.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from temper.config.cell import Cell

SEED = "seed="


class Composer:
    """Composes the runs of a sweep.

    Args:
        config: the sweep's own, composed without the axes.
    """

    def __init__(self, config: DictConfig, loader: ConfigLoader) -> None:
        self.config, self.loader = config, loader
        self.parser = OverridesParser.create(config_loader=loader)
        self.composed: dict[tuple[str, ...], DictConfig] = {}
        self.parse = cache(lambda override: self.parser.parse_overrides([override])[0])
        self.is_group = cache(lambda key: bool(loader.get_group_options(key, ObjectType.CONFIG)) if key else False)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The config of one run, as a copy of its own, without Hydra's part."""
        values = [override for override in overrides if self._sets_a_value(self.parse(override))]
        others = tuple(override for override in overrides if override not in values)
        if others not in self.composed:
            # With the values: an option may be chosen by one of them.
            self.composed[others] = _without_hydra(self.loader.load_sweep_config(self.config, list(overrides)))
        config = self.composed[others].copy()
        for override in map(self.parse, values):
            # As Hydra does it, once the files are put together.
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        return config

    def _sets_a_value(self, override: Override) -> bool:
        """Whether an override gives a new value to a key that is there, and does nothing else."""
        key = override.key_or_group
        changes = not (override.is_add() or override.is_force_add() or override.is_delete() or override.package)
        if isinstance(override.value(), dict):
            return False  # it is merged into what is there, which must not be what another run has merged
        return changes and not key.startswith("hydra") and not self.is_group(key)

    def seed(self, overrides: Sequence[str], config: DictConfig) -> Any:
        """The seed that a run's overrides give it, else the config's."""
        typed = [override for override in overrides if override.startswith(SEED)]
        return self.parse(typed[-1]).value() if typed else config.seed

    def cells(self, runs: Sequence[list[str]]) -> Iterator[tuple[DictConfig, list[list[str]]]]:
        """Runs that differ in their seed alone, with the config of the first of them.

        Where a seed reaches into what makes a cell (`data.split_seed=${seed}`), each run is a cell of its own.
        """
        groups: dict[tuple[str, ...], list[list[str]]] = {}
        for overrides in runs:
            groups.setdefault(tuple(o for o in overrides if not o.startswith(SEED)), []).append(overrides)
        for group in groups.values():
            first = self.compose(group[0])
            other = next((run for run in group if self.seed(run, first) != self.seed(group[0], first)), None)
            if other is None or Cell.of(first) == Cell.of(self.compose(other)):
                yield first, group
            else:
                yield from ((self.compose(overrides), [overrides]) for overrides in group)


def _without_hydra(config: DictConfig) -> DictConfig:
    config = config.copy()
    config._set_flag(["struct", "readonly"], [False, False])
    config.pop("hydra")
    return config
