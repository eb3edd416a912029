"""Precision, recall, F1 and balanced accuracy with their intervals, from a confusion matrix.

scikit-learn computes the figures as well, and the tests compare them with its; but exports and servers measure without
it, and it has no intervals.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pixelserve.interval import wilson

_RESAMPLES = 1000
_SEED = 0
_PERCENTILES = (2.5, 97.5)

Interval = tuple[float, float]
Counts = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ClassFigures:
    """The figures of one class, fractions of 1; None where nothing counts."""

    precision: float | None
    """The share of its predictions that are right; None: it was never predicted."""
    recall: float | None
    """The share of its samples that are predicted as it; None: it has none."""
    f1: float | None
    """The harmonic mean of precision and recall; None: it has neither samples nor predictions."""
    precision_interval: Interval | None
    """Wilson's 95 % interval."""
    recall_interval: Interval | None
    """Wilson's 95 % interval."""
    f1_interval: Interval | None
    """The 95 % interval by bootstrap."""


@dataclass(frozen=True)
class PerClass:
    """Figures that do not depend on how frequent each class is."""

    classes: tuple[ClassFigures, ...]
    """By class, in index order."""
    balanced_accuracy: float
    """The mean recall of the classes with samples, a fraction of 1."""
    balanced_accuracy_interval: Interval
    """Its 95 % interval by bootstrap."""
    macro_f1: float
    """The mean F1 of the classes with samples or predictions."""


def per_class(confusion: Counts) -> PerClass:
    """Returns the figures of a classifier.

    The bootstrap draws the samples again, with replacement, 1,000 times with a fixed seed; the interval holds the
    middle 95 % (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13).

    Args:
        confusion: samples by true label (row) and predicted label (column), integers [classes, classes].
    """
    total = int(confusion.sum())
    precision, recall, f1 = _figures(confusion.astype(np.float64))
    # Samples are drawn independently, so the counts of the matrix are a multinomial draw.
    drawn = np.random.default_rng(_SEED).multinomial(total, confusion.ravel() / total, _RESAMPLES)
    _, recalls, f1s = _figures(drawn.reshape(_RESAMPLES, *confusion.shape).astype(np.float64))
    classes = tuple(
        ClassFigures(
            _or_none(precision[label]),
            _or_none(recall[label]),
            _or_none(f1[label]),
            _wilson(confusion[label, label], confusion[:, label].sum()),
            _wilson(confusion[label, label], confusion[label].sum()),
            None if np.isnan(f1[label]) else _middle(f1s[:, label]),
        )
        for label in range(len(confusion))
    )
    return PerClass(classes, float(np.nanmean(recall)), _middle(_means(recalls)), float(np.nanmean(f1)))


def _figures(counts: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    """Returns precision, recall and F1, float [..., classes], NaN without samples or predictions."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    predicted, labelled = counts.sum(axis=-2), counts.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return right / predicted, right / labelled, 2 * right / (predicted + labelled)


def _means(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    known = ~np.isnan(values)
    means: npt.NDArray[np.float64] = np.where(known, values, 0).sum(axis=1) / known.sum(axis=1)
    return means


def _middle(values: npt.NDArray[np.float64]) -> Interval:
    low, high = np.nanpercentile(values, _PERCENTILES)
    return float(low), float(high)


def _wilson(right: int, count: int) -> Interval | None:
    return wilson(int(right), int(count)) if count else None


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
