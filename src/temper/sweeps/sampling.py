"""What a search may cost, and who asks: trials, their seeds, and a sampler of Optuna that can be replayed."""

import logging
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import optuna
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pydantic import TypeAdapter, ValidationError

from temper.config.errors import ConfigError
from temper.config.instantiate import explain_arguments
from temper.config.types import Count
from temper.sweeps.trial import Seeds, values_of

KEY = "hydra.sweeper.search"
TPE = {"_target_": "optuna.samplers.TPESampler", "seed": 0}
EXAMPLE = f"'{KEY}={{n_trials:24,n_jobs:4,seed:[100,101]}}'"


class Budget(NamedTuple):
    """What a search may cost: trials, how many of them are asked before the first is told, the seeds of each, the sampler."""

    trials: int
    side_by_side: int
    seeds: list[int]
    sampler: dict[str, Any]

    @classmethod
    def of(cls, search: Any) -> "Budget":
        """From `hydra.sweeper.search`.

        Raises:
            ConfigError: a key is unknown or missing, or a value is wrong.
        """
        known = {"n_trials", "n_jobs", "seed", "sampler"}
        if not isinstance(search, Mapping) or not {"n_trials", "seed"} <= set(search) <= known:
            there = ", ".join(map(str, search)) if isinstance(search, Mapping) else repr(search)
            raise ConfigError(
                f"{KEY} needs the keys n_trials and seed, may have n_jobs and sampler, and no other (got {there or 'none'}): "
                f"{EXAMPLE}, or {KEY}=null not to search. Its objectives are always the same two, clean and robust accuracy "
                "on the validation split, both maximized"
            )
        counts = {}
        for key in ("n_trials", "n_jobs"):
            try:
                counts[key] = TypeAdapter(Count).validate_python(search.get(key, 1))
            except ValidationError as error:
                raise ConfigError(f"{'; '.join(explain_arguments(error, f'{KEY}.{key}'))}; such as {KEY}.{key}=4") from None
        seeds = values_of(search["seed"], Seeds, f"{KEY}.seed", "[100,101]")
        return cls(counts["n_trials"], counts["n_jobs"], seeds, dict(search.get("sampler") or TPE))

    def study(self) -> optuna.Study:
        """An empty study of two objectives, in memory.

        Raises:
            ConfigError: there is no such sampler, it takes no such argument, or it could not be replayed.
        """
        spec, key = self.sampler, f"{KEY}.sampler"
        name = str(spec.get("_target_")).rpartition(".")[2]
        if name in ("GridSampler", "BruteForceSampler"):
            raise ConfigError(f"{key}: {name} is a grid; write its values as axes, and set {KEY}=null")
        if type(spec.get("seed")) is not int:
            raise ConfigError(f"{key}.seed should be a whole number (got {spec.get('seed')!r}): without it no search goes on")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                sampler = instantiate(spec)
        except InstantiationException as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise ConfigError(f"{key}: {reason}; such as {key}={{_target_:{TPE['_target_']},seed:0}}") from None
        if not isinstance(sampler, optuna.samplers.BaseSampler):
            raise ConfigError(f"{key}: {spec.get('_target_')} is no sampler of Optuna; such as {TPE['_target_']}")
        optuna.logging.set_verbosity(logging.WARNING)
        return optuna.create_study(directions=["maximize", "maximize"], sampler=sampler)

    @property
    def about_sampler(self) -> str:
        arguments = [f"{key}={value}" for key, value in sorted(self.sampler.items()) if key != "_target_"]
        name = str(self.sampler["_target_"]).rpartition(".")[2]
        return f"Optuna {optuna.__version__}, {name} ({', '.join(arguments)})"
