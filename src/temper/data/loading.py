"""Datamodules of runs, with their splits cached per process."""

import json
from functools import lru_cache
from typing import cast

from temper.config.node import Node
from temper.config.run_config import EvaluationConfig, parse_data
from temper.data import DataModule


def data_key(data: Node) -> str:
    """Return a key that identifies the data.

    Args:
        data: the config's `data` group.
    """
    return json.dumps(data.plain())


def build_data(run: EvaluationConfig) -> DataModule:
    """Build the datamodule of a run, its order of batches keyed by the seed and repeated as the attack asks for.

    Args:
        run: the run.
    """
    return cast(DataModule, run.data.build(seed=run.seed, repeats=run.replays))


def load_data(run: EvaluationConfig) -> DataModule:
    """Return the datamodule of a run with its splits in memory, loaded once for all runs of this process that share them.

    Args:
        run: the run.

    Raises:
        DataError: the data is missing or unusable.
    """
    return cached_data(data_key(run.data)).for_run(seed=run.seed, repeats=run.replays)


@lru_cache(maxsize=2)
def cached_data(key: str) -> DataModule:
    """Return the datamodule of a `data_key`, in the order of seed 0, with its splits in memory."""
    data = cast(DataModule, parse_data(json.loads(key)).build(seed=0))
    data.setup()
    return data
