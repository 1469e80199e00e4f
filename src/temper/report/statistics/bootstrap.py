"""Hierarchical bootstrap over seeds and test images, and the standard error of sampling test images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import sem

from temper.report.records.per_example import Outcomes
from temper.report.statistics.paired_differences import ALPHA, Contrast

REPEATS = 1000
SEED = 0  # of the generator: the same outcomes give the same interval


class Interval(NamedTuple):
    """Standard error, and the 2.5 % and 97.5 % quantiles, over resamples."""

    error: float
    low: float
    high: float


def image_differences(outcomes: Outcomes, contrast: Contrast, metric: str, seeds: Sequence[int]) -> np.ndarray | None:
    """Return the values of a contrast image by image.

    Args:
        outcomes: per-example outcomes of the runs.
        contrast: weights of the cells.
        metric: an accuracy.
        seeds: seeds of the study.

    Returns:
        (S, N), for the seeds that all cells have; None if there is none, or if the runs differ in the number of images.
    """
    rows = []
    for seed in seeds:
        runs = [outcomes.get((cell.digest, cell.suite, seed), {}) for cell in contrast]
        if all(metric in run for run in runs) and len({len(run[metric]) for run in runs}) == 1:
            weighted = [weight * run[metric].astype(float) for weight, run in zip(contrast.values(), runs, strict=True)]
            rows.append(np.sum(weighted, axis=0))
    return np.stack(rows) if rows and len({len(row) for row in rows}) == 1 else None


def hierarchical(differences: np.ndarray, *, repeats: int = REPEATS) -> Interval:
    """Resample seeds, and images anew within each seed (Davison & Hinkley 1997, 3.8).

    With few seeds the interval is too narrow, by about sqrt((S - 1) / S) and by the ratio of the normal to Student's quantile:
    judge by the t interval over seeds. Images are drawn independently for each seed, so their sampling error averages out over
    seeds; the error that all seeds share, because they have one test set, is `over_images`.

    Args:
        differences: (S, N), for S seeds and N images the difference of the paired cells on the same image.
        repeats: number of resamples.

    Returns:
        The interval; all NaN for a single seed.
    """
    seeds, images = differences.shape
    if seeds < 2:
        return Interval(np.nan, np.nan, np.nan)
    generator = np.random.default_rng(SEED)
    values, frequencies = _value_frequencies(differences)
    # Images take few distinct values, so a resample is determined by the count of each value.
    drawn = generator.multinomial(images, frequencies[generator.integers(seeds, size=(repeats, seeds))])
    means = (drawn @ values).mean(axis=1) / images
    low, high = np.quantile(means, [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(float(means.std(ddof=1)), float(low), float(high))


def over_images(differences: np.ndarray) -> float:
    """Return the standard error of sampling test images with the seeds held fixed: the effect of another test set.

    All seeds see the same images, so each image counts once, with its mean over seeds. The standard error of a mean needs no
    resampling.

    Args:
        differences: (S, N), as in `hierarchical`.
    """
    return float(sem(differences.mean(axis=0)))


def _value_frequencies(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the V distinct values, (V,), and their relative frequency in each row, (S, V)."""
    values, codes = np.unique(differences.round(9), return_inverse=True)
    rows = codes.reshape(differences.shape)
    return values, np.stack([np.bincount(row, minlength=len(values)) for row in rows]) / differences.shape[1]
