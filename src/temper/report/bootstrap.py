"""What the images add to the seeds: a bootstrap of both, and the sampling of images apart."""

import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from scipy.stats import sem

from temper.records import RunRecord, outcomes_path
from temper.report.frame import evaluations_of
from temper.report.paired import ALPHA, Contrast

REPEATS = 1000
SEED = 0  # of the generator: the same outcomes give the same interval
# Of one run, (digest, key of the suite, seed): by metric, whether each test image is right, (N,) bool.
Outcomes = dict[tuple[str, str, int], dict[str, np.ndarray]]


class Interval(NamedTuple):
    """Standard error, and the 2.5 % and 97.5 % quantiles, over resamples."""

    error: float
    low: float
    high: float


def hierarchical(differences: np.ndarray, *, repeats: int = REPEATS) -> Interval:
    """Resample seeds, and images anew within each (Davison & Hinkley 1997, 3.8).

    With few seeds its interval is too narrow, by about sqrt((S - 1) / S) and by the normal for Student's quantile: the t
    interval over seeds is the one to judge by. Images are drawn for each seed by itself, so that their luck averages out over
    seeds; what all seeds share of it, having one test set, is `over_images`.

    Args:
        differences: (S, N), of S seeds on N images, each that of the paired cells on the same image; S > 1, or all is NaN.
    """
    seeds, images = differences.shape
    if seeds < 2:
        return Interval(np.nan, np.nan, np.nan)
    generator = np.random.default_rng(SEED)
    values, shares = _shares(differences)
    # Images differ by few values: how often each is drawn is all that a resample of them is.
    drawn = generator.multinomial(images, shares[generator.integers(seeds, size=(repeats, seeds))])
    return _interval((drawn @ values).mean(axis=1) / images)


def over_images(differences: np.ndarray) -> float:
    """The standard error that the sampling of test images makes, the seeds held fixed: what another test set would change.

    All seeds see the same images, so that an image counts once, by its mean over them; of a mean, no resampling is needed.
    """
    return float(sem(differences.mean(axis=0)))


def _shares(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The V values that occur, (V,), and how often each does in every row, as a share, (S, V)."""
    values, codes = np.unique(differences.round(9), return_inverse=True)
    rows = codes.reshape(differences.shape)
    return values, np.stack([np.bincount(row, minlength=len(values)) for row in rows]) / differences.shape[1]


def _interval(means: np.ndarray) -> Interval:
    low, high = np.quantile(means, [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(float(means.std(ddof=1)), float(low), float(high))


def outcomes(
    records: Iterable[RunRecord],
    folder: Callable[[RunRecord], Path | None],
    suite: str,
    checkpoint: str,
    metrics: Sequence[str],
) -> tuple[Outcomes, list[str]]:
    """What happened to every test image under some accuracies (`test/clean`, `test/pgd`, `test/worst_case`, `curve/1`).

    Runs whose arrays are not there, such as those of records that were copied alone, are left out; so are damaged ones, with a
    line for each.
    """
    found: Outcomes = {}
    problems = []
    for record in records:
        for key in evaluations_of(record, suite):
            where = folder(record)
            path = None if where is None else outcomes_path(where, key, checkpoint)
            if path is None or not path.is_file():
                continue
            try:
                named = _named(path, record.attacks(key))
            except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
                problems.append(f"{path} is damaged, and its images are left out ({error})")
            else:
                found[record.digest, key, record.seed] = {metric: named[metric] for metric in metrics if metric in named}
    return found, problems


def _named(path: Path, attacks: Sequence[str]) -> dict[str, np.ndarray]:
    """By metric, whether each test image is right.

    Raises:
        ValueError: the arrays are of different lengths, or no truth values.
    """
    with np.load(path) as arrays:
        right = {f"test/{name}": arrays[name] for name in ("clean", *attacks) if name in arrays}
        curve = {name: arrays[name] for name in arrays if name.startswith("curve/")}
    named = {"test/worst_case": np.stack(list(right.values())).all(axis=0)} | right | curve
    if {(values.shape, values.dtype.kind) for values in named.values()} != {((len(right["test/clean"]),), "b")}:
        raise ValueError("not one truth value for each image under each attack")
    return named


def differences(found: Outcomes, contrast: Contrast, metric: str, seeds: Sequence[int]) -> np.ndarray | None:
    """Of a contrast, image by image, (S, N), for those seeds that all its cells have; None where there are none, or where they
    were not evaluated on as many images."""
    rows = []
    for seed in seeds:
        runs = [found.get((cell.digest, cell.suite, seed), {}) for cell in contrast]
        if all(metric in run for run in runs) and len({len(run[metric]) for run in runs}) == 1:
            weighted = [weight * run[metric].astype(float) for weight, run in zip(contrast.values(), runs, strict=True)]
            rows.append(np.sum(weighted, axis=0))
    return np.stack(rows) if rows and len({len(row) for row in rows}) == 1 else None
