"""A bootstrap over seeds and test images, and the sampling of test images apart."""

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
