"""Composition of a sweep's configs, each as its job will see it.

Hydra takes a quarter of a second to compose a config, and a grid may have thousands. Choices of group options determine the
files of a config; values are set after composition. So runs with the same group options are composed once, and runs that differ
only in their seed are treated as one cell.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from temper.config.cell import NOT_IDENTITY
from temper.config.composed import plain

SEED = "seed="


class Composer:
    """Composes the configs of a sweep's runs.

    Args:
        config: of the sweep, composed without the axes.
        loader: Hydra's.
    """

    def __init__(self, config: DictConfig, loader: ConfigLoader) -> None:
        self.config, self.loader = config, loader
        self.parser = OverridesParser.create(config_loader=loader)
        self.composed: dict[tuple[str, ...], DictConfig] = {}
        self.parse = cache(lambda override: self.parser.parse_overrides([override])[0])
        self.is_group = cache(lambda key: bool(loader.get_group_options(key, ObjectType.CONFIG)) if key else False)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Return a new config of one run, without Hydra's part.

        Args:
            overrides: of the run.
        """
        values = [override for override in overrides if self._sets_value(self.parse(override))]
        others = tuple(override for override in overrides if override not in values)
        if others not in self.composed:
            # The values are included, because a group option may be interpolated from one of them.
            self.composed[others] = _without_hydra(self.loader.load_sweep_config(self.config, list(overrides)))
        config = self.composed[others].copy()
        for override in map(self.parse, values):
            # As Hydra does after composition.
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        return config

    def _sets_value(self, override: Override) -> bool:
        """Return True if an override only sets an existing key to a new value."""
        key = override.key_or_group
        changes = not (override.is_add() or override.is_force_add() or override.is_delete() or override.package)
        if isinstance(override.value(), dict):
            return False  # dicts are merged, and must not be merged into what another run has merged
        return changes and not key.startswith("hydra") and not self.is_group(key)

    def seed(self, overrides: Sequence[str], config: DictConfig) -> Any:
        """Return the seed of a run.

        Args:
            overrides: of the run.
            config: gives the seed if the overrides do not.
        """
        typed = [override for override in overrides if override.startswith(SEED)]
        return self.parse(typed[-1]).value() if typed else config.seed

    def cells(self, runs: Sequence[list[str]]) -> Iterator[tuple[DictConfig, list[list[str]]]]:
        """Yield groups of runs that differ only in their seed, each with the config of its first run.

        If the seed changes the cell (`data.split_seed=${seed}`), each run is a separate cell.

        Args:
            runs: the overrides of each run.
        """
        groups: dict[tuple[str, ...], list[list[str]]] = {}
        for overrides in runs:
            groups.setdefault(tuple(o for o in overrides if not o.startswith(SEED)), []).append(overrides)
        for group in groups.values():
            first = self.compose(group[0])
            other = next((run for run in group if self.seed(run, first) != self.seed(group[0], first)), None)
            if other is None or _is_same_cell(first, self.compose(other)):
                yield first, group
            else:
                yield from ((self.compose(overrides), [overrides]) for overrides in group)


def _is_same_cell(first: DictConfig, other: DictConfig) -> bool:
    return plain(first, without=NOT_IDENTITY) == plain(other, without=NOT_IDENTITY)


def _without_hydra(config: DictConfig) -> DictConfig:
    config = config.copy()
    config._set_flag(["struct", "readonly"], [False, False])
    config.pop("hydra")
    return config
