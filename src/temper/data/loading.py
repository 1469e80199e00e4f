"""The data of a config."""

import json
from functools import lru_cache

from omegaconf import DictConfig, OmegaConf

from temper.config.composed import plain_part
from temper.config.instantiate import build
from temper.data import DataModule


def data_text(config: DictConfig) -> str:
    """What tells one set of data from another."""
    return json.dumps(plain_part(config, "data"))


def build_data(config: DictConfig) -> DataModule:
    """The datamodule of a config, its order of batches keyed by the run's seed, repeated as the attack asks for."""
    # Threats, statistics, symmetries and sizes are there for attack, evaluation, model and penalty to refer to.
    replays = OmegaConf.select(config, "attack.replays", default=1)
    shared = ("threats", "mean", "std", "flip", "vocabulary", "length", "tokenizer")
    return build(config, "data", without=shared, seed=config.seed, repeats=replays)


def load_data(config: DictConfig) -> DataModule:
    """The same with its splits in memory, once for all runs of this process that have the data in common.

    Raises:
        DataError: the data is missing or unfit.
    """
    replays = OmegaConf.select(config, "attack.replays", default=1)
    return loaded(data_text(config)).ordered(seed=config.seed, repeats=replays)


@lru_cache(maxsize=2)
def loaded(text: str) -> DataModule:
    """Of a `data_text`, in the order of seed 0."""
    data = build_data(OmegaConf.create({"data": json.loads(text), "seed": 0}))
    data.setup()
    return data
