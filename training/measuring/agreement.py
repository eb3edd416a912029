"""Compares measured figures with a card's, and reports differences beyond rounding."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from pixelserve.card import Card
from pixelserve.figures import Evaluation

from .evaluate import Figures

# Other versions of ONNX Runtime and other processors sum in a different order, which may flip a borderline sample.
_SAMPLES_A_TURNED_LABEL = 10_000
_CALIBRATION_ROUNDING = 1e-3
_RELATIVE_ROUNDING = 1e-4


def differences(card: Card, figures: Figures, support: Mapping[str, int]) -> list[str]:
    """Returns a clause for each figure that differs from the card's on the same samples.

    Rounding is one flipped label in 10,000 samples, 0.001 of the calibration error, and 0.01 % of any other figure. The
    surest errors are not compared, because rounding changes the order of close probabilities.

    Args:
        card: the version's card.
        figures: the measured figures.
        support: number of samples per label; empty for a regression.
    """
    if card.evaluation is None:
        return []
    found = [
        f"{name} is {measured:.6g}, the card says {claimed:.6g}"
        for name, measured, claimed, rounding in _compared(card, card.evaluation, figures, support)
        # Figures are quotients: a difference of exactly one sample must not fail by a rounding error.
        if abs(measured - claimed) > rounding * (1 + 1e-9)
    ]
    return found + _confused(card.evaluation, figures.evaluation)


def _compared(
    card: Card, claimed: Evaluation, figures: Figures, support: Mapping[str, int]
) -> Iterator[tuple[str, float, float, float]]:
    """Yields the common figures: name, measured value, the card's value, and the tolerance."""
    measured = figures.evaluation
    turned = _turned(measured)
    for name in sorted(measured.metrics.keys() & claimed.metrics.keys()):
        value = claimed.metrics[name]
        rounding = turned / measured.samples if name == "accuracy" else abs(value) * _RELATIVE_ROUNDING
        yield name, measured.metrics[name], value, rounding
    for label, recall in measured.per_class_recall.items():
        if label in claimed.per_class_recall:
            yield f"recall of {label}", recall, claimed.per_class_recall[label], turned / support[label]
    if figures.calibration and card.calibration:
        error, expected = (part.expected_calibration_error for part in (figures.calibration, card.calibration))
        yield "calibration error", error, expected, _CALIBRATION_ROUNDING


def _confused(claimed: Evaluation, measured: Evaluation) -> list[str]:
    """Returns a clause if both confusion matrices exist and differ by more than rounding."""
    if claimed.confusion is None or measured.confusion is None:
        return []
    if claimed.confusion.labels != measured.confusion.labels:
        return ["the confusion matrix has other labels than the card's"]
    # A sample with another prediction moves from one cell to another.
    moved = int(np.abs(np.subtract(claimed.confusion.counts, measured.confusion.counts)).sum()) // 2
    return [f"the confusion matrix has {moved:,} samples in other cells"] if moved > _turned(measured) else []


def _turned(measured: Evaluation) -> int:
    return math.ceil(measured.samples / _SAMPLES_A_TURNED_LABEL)
