"""What a version predicts, and how far that is from what its card says of the data that it was made for."""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pixelserve.card import Baseline

from ..engine.tensors import Array, TensorSpec
from .histogram import Histogram

CONFIDENCE = tuple(round(number / 20, 2) for number in range(1, 21))
ENTROPY_NATS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)

# A share below this counts as this, or a class that is never seen would make any difference infinite.
_LEAST_SHARE = 1e-4
# How far from 1 the sum of a row of probabilities may lie: what half precision makes of it.
_SUM_TOLERANCE = 1e-2
# More classes would make more series than anybody reads.
_MOST_CLASSES = 1000
# Rows that are kept as they are until somebody wants to know, or there are so many.
_MOST_PENDING_ROWS = 2048
# What a probability of 0 is for its logarithm.
_NEXT_TO_NOTHING = np.float32(1e-30)
# Fewer say more of chance than of the data.
_LEAST_ROWS = 100


def scores_output(outputs: Sequence[TensorSpec]) -> TensorSpec | None:
    """Returns the one output of a classifier, rows of scores [N, classes]; None: the model is none."""
    if len(outputs) != 1 or not outputs[0].datatype.name.startswith("FP"):
        return None
    shape = outputs[0].shape
    return outputs[0] if len(shape) == 2 and 2 <= shape[1] <= _MOST_CLASSES else None


@dataclass(frozen=True)
class Drift:
    """How far a window of predictions is from the baseline: population stability indices, 0 where they are alike."""

    classes: float
    """Of the predicted classes."""
    confidence: float
    """Of the greatest probability."""
    rows: int
    """Predictions in the window."""


class Predictions:
    """The predictions of one version. May be used from any thread; `add` is quick."""

    def __init__(self, output: TensorSpec, baseline: Baseline | None, window: int) -> None:
        """Starts out with none.

        Args:
            output: rows of scores [N, classes].
            baseline: what predictions look like on data of the kind trained for; None: nobody knows.
            window: how many of the last predictions are held against it.
        """
        self.output = output.name
        """Name of the output that is watched."""
        self.labels = _distinct(output)
        """The classes' names."""
        self._baseline = baseline
        self._window = window
        self._pending: deque[Array] = deque()
        # About so many: threads that add at once may each count for both.
        self._pending_rows = 0
        self._lock = threading.Lock()
        self._counts = np.zeros(output.shape[1], np.int64)
        self._confidence = Histogram(CONFIDENCE)
        self._entropy = Histogram(ENTROPY_NATS)
        # The last ones' classes and confidences, oldest first.
        self._classes: deque[int] = deque(maxlen=window)
        self._confidences: deque[float] = deque(maxlen=window)

    def add(self, scores: Array) -> None:
        """Adds predictions: scores [N, classes]."""
        self._pending.append(scores)
        self._pending_rows += len(scores)
        if self._pending_rows >= _MOST_PENDING_ROWS:
            with self._lock:
                self._fold()

    def counts(self) -> list[int]:
        """Returns how many rows were put into each class."""
        with self._lock:
            self._fold()
            counts: list[int] = self._counts.tolist()
            return counts

    @property
    def histograms(self) -> tuple[Histogram, Histogram]:
        """The greatest probability of each row that is probabilities, and the entropies of these rows, in nats."""
        return self._confidence, self._entropy

    def drift(self) -> Drift | None:
        """Returns how far the last predictions are from the baseline; None: there is none, or too few of them."""
        with self._lock:
            self._fold()
            rows = len(self._classes)
            if self._baseline is None or rows < min(_LEAST_ROWS, self._classes.maxlen or 0) or not rows:
                return None
            classes = np.bincount(self._classes, minlength=len(self.labels)) / rows
            confidences, _ = np.histogram(self._confidences, len(self._baseline.confidence), (0, 1))
        expected = [self._baseline.predicted_classes.get(label, 0.0) for label in self.labels]
        shares = confidences / max(confidences.sum(), 1)
        return Drift(stability_index(classes, expected), stability_index(shares, self._baseline.confidence), rows)

    def _fold(self) -> None:
        """Counts what is pending."""
        waiting = [self._pending.popleft() for _ in range(len(self._pending))]
        if not waiting:
            return
        scores = np.concatenate(waiting).astype(np.float32, copy=False)
        self._pending_rows = 0
        classes = scores.argmax(axis=1)
        self._counts += np.bincount(classes, minlength=len(self._counts))
        self._classes.extend(classes[-self._window :].tolist())
        likely = scores[_are_probabilities(scores)]
        # Rounding can make a probability of more than 1.
        confidence = np.minimum(likely.max(axis=1, initial=0.0), 1.0)
        self._confidences.extend(confidence[-self._window :].tolist())
        self._confidence.observe(confidence)
        # 0 times the logarithm of next to nothing is 0, as it should be.
        self._entropy.observe(-(likely * np.log(np.maximum(likely, _NEXT_TO_NOTHING))).sum(axis=1))


def _distinct(output: TensorSpec) -> tuple[str, ...]:
    """Returns a name for each class; their numbers, where two have the same label or there are none."""
    numbers = tuple(map(str, range(output.shape[1])))
    return output.labels if len(set(output.labels)) == len(numbers) else numbers


def _are_probabilities(scores: Array) -> Array:
    """Returns which rows are probabilities: bool [N]."""
    sums = np.abs(scores.sum(axis=1) - 1) <= _SUM_TOLERANCE
    return np.asarray(sums & (scores >= 0).all(axis=1))


def stability_index(found: Sequence[float] | Array, expected: Sequence[float] | Array) -> float:
    """Returns the population stability index of two distributions: the sum of (p - q) ln(p / q) over their shares.

    It is the sum of both Kullback-Leibler divergences. By custom, below 0.1 nothing has changed and above 0.25 much has
    (Siddiqi, Credit Risk Scorecards, 2006).

    Args:
        found: shares, fractions of 1.
        expected: the same of as many bins.
    """
    p, q = (np.maximum(np.asarray(shares, np.float64), _LEAST_SHARE) for shares in (found, expected))
    return float(((p - q) * np.log(p / q)).sum())
