"""Accuracies with intervals that say how far they can be trusted."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean accuracy in [0, 1] and its 95 % interval over ``count`` of something."""

    value: float
    low: float | None
    high: float | None
    of: str
    count: int

    def to_dict(self) -> dict[str, float | int | str | None]:
        """Return plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{100 * self.value:.1f} %"
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return counts (N, N): row = true class, column = predicted class, both 0..N-1."""
    cells = np.bincount(truth * classes + predicted, minlength=classes**2)
    return cells.reshape(classes, classes)


def per_class(confusion: np.ndarray) -> np.ndarray:
    """Return the accuracy of each class (N,), NaN for a class without queries."""
    totals = confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.diag(confusion) / totals


def bootstrap(
    confusion: np.ndarray, resamples: int = 10_000, seed: int = 0
) -> tuple[Estimate, Estimate]:
    """Return micro and macro accuracy with percentile intervals over resampled queries.

    Which queries are drawn matters only through how many are right and wrong in each class, so
    a resample is one multinomial draw over these 2 N cells: the exact bootstrap, without moving
    any query. Resamples in which a class has no query average over the others.

    Args:
        confusion: Counts (N, N), at least one query.
    """
    right = np.diag(confusion)
    wrong = confusion.sum(axis=1) - right
    total = int(confusion.sum())
    cells = np.concatenate([right, wrong]).astype(np.float64)
    draws = np.random.default_rng(seed).multinomial(total, cells / total, size=resamples)
    drawn_right, drawn_wrong = draws[:, : len(right)], draws[:, len(right) :]
    with np.errstate(invalid="ignore"):
        classes = drawn_right / (drawn_right + drawn_wrong)
    estimates = []
    for value, samples in (
        (right.sum() / total, drawn_right.sum(axis=1) / total),
        (np.nanmean(per_class(confusion)), np.nanmean(classes, axis=1)),
    ):
        low, high = np.percentile(samples, [2.5, 97.5])
        estimates.append(Estimate(float(value), float(low), float(high), "queries", total))
    return estimates[0], estimates[1]


@lru_cache
def student_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t, e.g. 2.776 for 0.975 and 4 degrees of freedom.

    With t = sqrt(freedom) tan(a), the distribution is an integral of a power of the cosine, which
    Gauss-Legendre quadrature gives to about 1e-12; bisection inverts it.
    """
    if not 0.5 <= probability < 1 or freedom < 1:
        raise ValueError(f"no quantile of {probability} with {freedom} degrees of freedom")
    nodes, weights = np.polynomial.legendre.leggauss(128)
    norm = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.pi**0.5

    def above_middle(angle: float) -> float:
        half = angle / 2
        return float(norm * half * (weights * np.cos(half * (nodes + 1)) ** (freedom - 1)).sum())

    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        if above_middle(middle) < probability - 0.5:
            low = middle
        else:
            high = middle
    return float(freedom**0.5 * math.tan((low + high) / 2))


def student_interval(
    values: Sequence[float] | np.ndarray, of: str, difference: bool = False
) -> Estimate:
    """Return the mean and its 95 % interval by Student's t; no interval for a single value.

    The interval is cut at the ends of what a mean (or a difference) can be, which loses no
    coverage.
    """
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return Estimate(mean, None, None, of, len(array))
    half = student_quantile(0.975, len(array) - 1) * float(array.std(ddof=1)) / len(array) ** 0.5
    low, high = max(mean - half, -1.0 if difference else 0.0), min(mean + half, 1.0)
    return Estimate(mean, low, high, of, len(array))
