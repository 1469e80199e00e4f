"""Datamodules built from a config."""

import json
from functools import lru_cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from temper.config.composed import plain_part
from temper.config.instantiate import build
from temper.data import DataModule


def data_key(config: DictConfig) -> str:
    """Return the data settings as JSON; runs with equal settings share one data set."""
    return json.dumps(plain_part(config, "data"))


def build_data(config: DictConfig) -> DataModule:
    """Build the datamodule of a config, without loading its data.

    The order of the batches is keyed by the seed of the run. Each batch is repeated `attack.replays` times.
    """
    # These entries are not arguments: attack, evaluation, model and penalty refer to them.
    shared = ("threats", "mean", "std", "flip", "vocabulary", "length", "tokenizer")
    return build(config, "data", without=shared, seed=config.seed, repeats=_replays(config))


def load_data(config: DictConfig) -> DataModule:
    """Return the datamodule of a config with its splits in memory. Runs of one process that use the same data share them.

    Raises:
        DataError: The data is missing or invalid.
    """
    return cached_data(data_key(config)).for_run(seed=config.seed, repeats=_replays(config))


@lru_cache(maxsize=2)
def cached_data(key: str) -> DataModule:
    """Load the datamodule of a `data_key`, with the order of batches of seed 0."""
    data = build_data(OmegaConf.create({"data": json.loads(key), "seed": 0}))
    data.setup()
    return data


def _replays(config: DictConfig) -> Any:
    return OmegaConf.select(config, "attack.replays", default=1)
