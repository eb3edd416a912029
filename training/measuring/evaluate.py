"""Figures of a model, from its outputs and what it was to predict; NumPy alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pixelserve.card import Baseline, Calibration, Evaluation
from pixelserve.scores import OutputKind, as_probabilities, contradict, each_class, is_single_unit

from .calibrate import apply_temperature

CALIBRATION_BINS = 15
BASELINE_BINS = 20
_HALF = 0.5

Scores = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Figures:
    """What was measured on one split."""

    evaluation: Evaluation
    """Accuracy, and recall by label; of a regression, its error."""
    calibration: Calibration | None = None
    """How far confidence is from accuracy; None: the outputs are no probabilities."""
    baseline: Baseline | None = None
    """What predictions look like; None: the outputs are no probabilities."""

    @property
    def accuracy(self) -> float:
        """The share of samples whose highest score is the true label's, a fraction of 1."""
        return self.evaluation.metrics["accuracy"]


def measure(
    scores: Scores, labels: Labels, names: Sequence[str], *, split: str, temperature: float | None = None
) -> Figures:
    """Measures a classifier.

    Args:
        scores: float [N, classes], the highest one is the prediction; of a single one, it is whether the score is above
            a half.
        labels: integer [N], the index of each sample's label.
        names: the labels in index order.
        split: what the samples are, such as test.
        temperature: what the model divides its logits by, to tell calibration without it as well; None: nothing.
    """
    names = class_names(names)
    if scores.shape[1] == 1:
        scores = np.concatenate([1 - scores, scores], axis=1)
    correct = scores.argmax(axis=1) == labels
    evaluation = Evaluation(
        split=split,
        samples=len(labels),
        metrics={"accuracy": float(correct.mean())},
        per_class_recall={
            name: float(correct[labels == index].mean()) for index, name in enumerate(names) if (labels == index).any()
        },
    )
    if not _are_probabilities(scores):
        return Figures(evaluation)
    return Figures(evaluation, _calibration(scores, correct, temperature), _baseline(scores, names))


def _calibration(scores: Scores, correct: npt.NDArray[np.bool_], temperature: float | None) -> Calibration:
    uncalibrated = None
    if temperature is not None:
        as_learned = apply_temperature(scores, 1 / temperature)
        uncalibrated = expected_calibration_error(as_learned.max(axis=1), correct)
    return Calibration(
        expected_calibration_error=expected_calibration_error(scores.max(axis=1), correct),
        bins=CALIBRATION_BINS,
        temperature=temperature,
        uncalibrated_error=uncalibrated,
    )


def measure_regression(
    values: Scores, targets: npt.NDArray[Any], *, split: str, inputs: npt.NDArray[Any] | None = None
) -> Figures:
    """Measures a regression by its mean squared error, and where there are inputs, the best plane's beside it.

    The plane is the one of least squares in closed form, which no other plane can beat on the samples it is fitted to.

    Args:
        values: float [N, values], what the model predicts.
        targets: real [N] or [N, values], what is true.
        split: what the samples are, such as training.
        inputs: real [N, features], the rows that it was predicted from; None: no plane is fitted.
    """
    wanted = targets.astype(np.float64).reshape(len(targets), -1)
    metrics = {"mean_squared_error": _mean_squared_error(values, wanted)}
    if inputs is not None:
        # A column of ones is the intercept.
        rows = np.column_stack([inputs.astype(np.float64), np.ones(len(inputs))])
        coefficients = np.linalg.lstsq(rows, wanted)[0]
        metrics["least_squares_mean_squared_error"] = _mean_squared_error(rows @ coefficients, wanted)
    return Figures(Evaluation(split=split, samples=len(targets), metrics=metrics))


def _mean_squared_error(values: Scores, targets: Scores) -> float:
    return float(np.mean((values.astype(np.float64) - targets) ** 2))


def score_each_class(scores: Scores, names: Sequence[str]) -> Scores:
    """Returns scores [N, classes]: a single score p of two classes becomes 1 − p and p, any others stay as they are.

    Args:
        scores: float [N, scores].
        names: the classes' names in index order.
    """
    # More than one name for a single score can only be two.
    return np.concatenate([1 - scores, scores], axis=1) if scores.shape[1] == 1 < len(names) else scores


def as_served(scores: Scores, names: Sequence[str], kind: OutputKind | None) -> Scores:
    """Returns a model's numbers as a server reads them: probabilities of logits, and both classes of a single unit.

    Args:
        scores: float [N, columns], the model's output.
        names: the classes' names in index order.
        kind: what the output is; None: not known.

    Returns:
        Float [N, classes], which `measure` takes; unchanged if the kind is not known, except that a single unit outside
        0 to 1 is a score.
    """
    if kind is None and is_single_unit(scores.shape[1], len(names)) and contradict(scores, "sigmoids").any():
        kind = "scores"
    if kind is None or (kind in ("probabilities", "sigmoids") and scores.shape[1] > 1):
        return scores
    return as_probabilities(each_class(scores, kind, len(class_names(names))), kind)


def class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of all classes: a model that has a single label tells two apart."""
    return (f"not {names[0]}", names[0]) if len(names) == 1 else tuple(names)


def confusion(scores: Scores, labels: Labels) -> npt.NDArray[np.int64]:
    """Returns how often each label was taken for each, int64 [classes, classes]: a row a true label.

    Args:
        scores: float [N, classes], as `measure` takes them.
        labels: integer [N], the index of each sample's label.
    """
    classes = max(scores.shape[1], 2)
    pairs = labels.astype(int) * classes + predictions(scores)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def predictions(scores: Scores) -> npt.NDArray[np.int64]:
    """Returns the index of each sample's predicted label, int64 [N], of scores as `measure` takes them."""
    return (scores.argmax(axis=1) if scores.shape[1] > 1 else scores[:, 0] > _HALF).astype(np.int64)


def expected_calibration_error(confidence: Scores, correct: npt.NDArray[np.bool_]) -> float:
    """Returns the mean distance of accuracy from confidence over equal-width bins, weighted by their samples.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.

    Args:
        confidence: float [N], each prediction's probability, in 0 to 1.
        correct: bool [N], whether the prediction is the true label.
    """
    # A bin holds its upper edge, as in the paper.
    bins = np.ceil(confidence.astype(np.float64) * CALIBRATION_BINS).astype(int).clip(1, CALIBRATION_BINS) - 1
    gaps = np.bincount(bins, weights=correct - confidence.astype(np.float64), minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def _baseline(scores: Scores, names: Sequence[str]) -> Baseline:
    shares = np.bincount(scores.argmax(axis=1), minlength=len(names)) / len(scores)
    counts, _ = np.histogram(scores.max(axis=1), bins=BASELINE_BINS, range=(0, 1))
    return Baseline(
        predicted_classes={name: float(share) for name, share in zip(names, shares, strict=True)},
        confidence=[float(share) for share in counts / len(scores)],
    )


def _are_probabilities(scores: Scores) -> bool:
    in_range = bool((scores >= 0).all() and (scores <= 1).all())
    return in_range and bool(np.allclose(scores.sum(axis=1), 1, atol=1e-3))
