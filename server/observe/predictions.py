"""Counts a version's predictions and measures their drift from the card's baseline."""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pixelserve.figures import Baseline

from ..engine.scores import ScoreReader
from ..engine.tensors import Array
from .histogram import Histogram

CONFIDENCE = tuple(round(number / 20, 2) for number in range(1, 21))
ENTROPY_NATS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)

# Minimum share; an unseen class would otherwise make the index infinite.
_LEAST_SHARE = 1e-4
# More classes would make too many time series.
_MOST_CLASSES = 1000
# Rows are kept unprocessed until they are read, or counted with their runs, or take this much: 3,276 rows of ten
# classes. More are not cheaper, and delay one request by more.
_MOST_PENDING_BYTES = 128 * 1024
# Replaces a probability of 0 in the logarithm.
_NEXT_TO_NOTHING = np.float32(1e-30)
# Fewer predictions mostly show chance.
_LEAST_ROWS = 100


def is_tracked(reader: ScoreReader | None) -> bool:
    """Returns whether a version's predictions are counted: those of classifiers with two or more classes."""
    return reader is not None and 2 <= reader.classes <= _MOST_CLASSES


@dataclass(frozen=True)
class Drift:
    """Drift of a window of predictions from the baseline, as population stability indices; 0: no drift."""

    classes: float
    """Of the predicted classes."""
    confidence: float
    """Of the greatest probability."""
    rows: int
    """Predictions in the window."""


class Predictions:
    """The predictions of one version. Thread-safe; `add` is cheap.

    Args:
        reader: reads the output as scores.
        baseline: the distribution of predictions on held-out data, or None.
        window: number of the last predictions to compare with it.
    """

    def __init__(self, reader: ScoreReader, baseline: Baseline | None, window: int) -> None:
        self.output = reader.output.name
        """Name of the counted output."""
        self.labels = _distinct(reader)
        """The classes' names."""
        self._reader = reader
        self._baseline = baseline
        self._window = window
        # Copies, row after row: hundreds of arrays would be scattered in memory by the time they are counted.
        self._pending = bytearray()
        self._lock = threading.Lock()
        self._counts = np.zeros(reader.classes, np.int64)
        self._not_finite = 0
        self._confidence = Histogram(CONFIDENCE)
        self._entropy = Histogram(ENTROPY_NATS)
        # Classes and confidences of the last predictions, oldest first.
        self._classes: deque[int] = deque(maxlen=window)
        self._confidences: deque[float] = deque(maxlen=window)

    def add(self, scores: Array) -> None:
        """Adds rows of the output."""
        with self._lock:
            self._pending += scores.tobytes()
            if len(self._pending) >= _MOST_PENDING_BYTES:
                self._fold()

    def fold(self) -> None:
        """Counts pending rows."""
        with self._lock:
            self._fold()

    def counts(self) -> list[int]:
        """Returns the number of rows per class."""
        with self._lock:
            self._fold()
            counts: list[int] = self._counts.tolist()
            return counts

    def not_finite(self) -> int:
        """Returns how many rows had NaN or infinity; they are counted only here."""
        with self._lock:
            self._fold()
            return self._not_finite

    @property
    def histograms(self) -> tuple[Histogram, Histogram]:
        """Histograms of the highest probability and the entropy (in nats) of rows of probabilities."""
        return self._confidence, self._entropy

    def drift(self) -> Drift | None:
        """Returns the drift of the last predictions; None without a baseline, with too few of them, or for scores."""
        with self._lock:
            self._fold()
            rows = len(self._classes)
            if self._baseline is None or rows < min(_LEAST_ROWS, self._classes.maxlen or 0) or not rows:
                return None
            if not self._confidences:
                # Scores have no confidences, which would look like maximal drift.
                return None
            classes = np.bincount(self._classes, minlength=len(self.labels)) / rows
            confidences, _ = np.histogram(self._confidences, len(self._baseline.confidence), (0, 1))
        expected = [self._baseline.predicted_classes.get(label, 0.0) for label in self.labels]
        shares = confidences / max(confidences.sum(), 1)
        return Drift(stability_index(classes, expected), stability_index(shares, self._baseline.confidence), rows)

    def _fold(self) -> None:
        """Counts what is pending."""
        if not self._pending:
            return
        pending, self._pending = self._pending, bytearray()
        output = self._reader.output
        reading = self._reader.read(np.frombuffer(pending, output.datatype.dtype).reshape(-1, output.shape[1]))
        numbers = reading.numbers[reading.finite]
        self._not_finite += len(reading.numbers) - len(numbers)
        classes = reading.columns[reading.finite].argmax(axis=1)
        self._counts += np.bincount(classes, minlength=len(self._counts))
        self._classes.extend(classes[-self._window :].tolist())
        if reading.are_probabilities:
            confidence = numbers.max(axis=1, initial=0.0)
            self._confidences.extend(confidence[-self._window :].tolist())
            self._confidence.observe(confidence)
            self._entropy.observe(_entropy_nats(numbers, exclusive=reading.are_exclusive))


def _distinct(reader: ScoreReader) -> tuple[str, ...]:
    """Returns a name per class: its label, or its number if labels are missing or not unique."""
    numbers = tuple(map(str, range(reader.classes)))
    labels = reader.output.labels
    return labels if len(set(labels)) == len(numbers) else numbers


def _entropy_nats(probabilities: Array, *, exclusive: bool) -> Array:
    """Returns the entropy of each row of probabilities [N, classes]; for independent classes, the sum of theirs."""
    entropy = _surprise(probabilities)
    return entropy if exclusive else entropy + _surprise(1 - probabilities)


def _surprise(probabilities: Array) -> Array:
    # 0 · log(tiny) is 0, as it should be.
    return np.asarray(-(probabilities * np.log(np.maximum(probabilities, _NEXT_TO_NOTHING))).sum(axis=1))


def stability_index(found: Sequence[float] | Array, expected: Sequence[float] | Array) -> float:
    """Returns the population stability index of two distributions: the sum of (p - q) ln(p / q) over their shares.

    It is the sum of both Kullback-Leibler divergences. By convention, below 0.1 means no change, above 0.25 a large one
    (Siddiqi, Credit Risk Scorecards, 2006).

    Args:
        found: shares, fractions of 1.
        expected: the expected shares of the same bins.
    """
    p, q = (np.maximum(np.asarray(shares, np.float64), _LEAST_SHARE) for shares in (found, expected))
    return float(((p - q) * np.log(p / q)).sum())
