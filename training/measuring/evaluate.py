"""Computes a model's figures from its outputs and targets, with NumPy only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pixelserve.figures import (
    CONFUSION_LABELS,
    SUREST_ERRORS,
    Baseline,
    Calibration,
    ClassFigures,
    Confusion,
    Evaluation,
    ReliabilityBin,
    SurestError,
)
from pixelserve.scores import OutputKind, as_probabilities, contradict, each_class, is_single_unit

from .calibrate import apply_temperature
from .per_class import per_class

CALIBRATION_BINS = 15
BASELINE_BINS = 20
_HALF = 0.5

Scores = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.integer[Any]]
PictureOf = Callable[[int], str | None]
"""Returns a sample's image in base64 by its index, or None if it is not an image."""


@dataclass(frozen=True)
class Figures:
    """Figures measured on one split."""

    evaluation: Evaluation
    """Accuracy, recall by label and confusions; for a regression, its error."""
    calibration: Calibration | None = None
    """Calibration of the confidence, or None if the outputs are not probabilities."""
    baseline: Baseline | None = None
    """Distribution of the predictions, or None if the outputs are not probabilities."""

    @property
    def accuracy(self) -> float:
        """The share of samples whose highest score is the true label's, a fraction of 1."""
        return self.evaluation.metrics["accuracy"]


def measure(
    scores: Scores,
    labels: Labels,
    names: Sequence[str],
    *,
    split: str,
    temperature: float | None = None,
    picture_of: PictureOf = lambda _: None,
) -> Figures:
    """Measures a classifier.

    Args:
        scores: float [N, classes]; the prediction is the highest one. A single score predicts the second class above
            a half.
        labels: integer [N], the index of each sample's label.
        names: the labels in index order.
        split: the samples' split, such as test.
        temperature: the model's calibration temperature, to report the uncalibrated error as well, or None.
        picture_of: returns the images of the surest errors.
    """
    names = class_names(names)
    if scores.shape[1] == 1:
        scores = np.concatenate([1 - scores, scores], axis=1)
    correct = scores.argmax(axis=1) == labels
    recall = {index: float(correct[labels == index].mean()) for index in range(len(names)) if (labels == index).any()}
    evaluation = Evaluation(
        split=split,
        samples=len(labels),
        metrics={"accuracy": float(correct.mean())},
        per_class_recall={names[index]: share for index, share in recall.items()},
        per_class_samples={names[index]: int((labels == index).sum()) for index in recall},
        **_per_class(scores, labels, names),
        confusion=_confusion(scores, labels, names),
        surest_errors=_errors(scores, labels, names, picture_of),
    )
    if not _are_probabilities(scores):
        return Figures(evaluation)
    return Figures(evaluation, _calibration(scores, correct, temperature), _baseline(scores, names))


def _confusion(scores: Scores, labels: Labels, names: Sequence[str]) -> Confusion | None:
    # A graph may not define its number of classes.
    if len(names) > CONFUSION_LABELS or scores.shape[1] != len(names):
        return None
    return Confusion(labels=list(names), counts=confusion(scores, labels).tolist())


def _per_class(scores: Scores, labels: Labels, names: Sequence[str]) -> dict[str, Any]:
    """Returns the fields of an evaluation beside recall; none where it has no confusion matrix."""
    if len(names) > CONFUSION_LABELS or scores.shape[1] != len(names):
        return {}
    found = per_class(confusion(scores, labels))
    figures = {
        name: ClassFigures(
            precision=each.precision,
            precision_interval=each.precision_interval,
            recall_interval=each.recall_interval,
            f1=each.f1,
            f1_interval=each.f1_interval,
        )
        for name, each in zip(names, found.classes, strict=True)
    }
    return {
        "per_class": figures,
        "balanced_accuracy": found.balanced_accuracy,
        "balanced_accuracy_interval": found.balanced_accuracy_interval,
    }


def _errors(scores: Scores, labels: Labels, names: Sequence[str], picture_of: PictureOf) -> list[SurestError]:
    are_probabilities = _are_probabilities(scores)
    found = []
    for index in surest_errors(scores, labels):
        predicted = int(scores[index].argmax())
        error = SurestError(
            sample=int(index),
            label=names[labels[index]],
            predicted=names[predicted] if predicted < len(names) else str(predicted),
            probability=float(scores[index, predicted]) if are_probabilities else None,
            picture=picture_of(int(index)),
        )
        found.append(error)
    return found


def surest_errors(scores: Scores, labels: Labels) -> npt.NDArray[np.intp]:
    """Returns the indices of the wrong predictions with the highest scores, descending, at most `SUREST_ERRORS`.

    Args:
        scores: float [N, classes]; the prediction is the highest one.
        labels: integer [N], the index of each sample's label.
    """
    wrong = np.flatnonzero(scores.argmax(axis=1) != labels)
    return wrong[np.argsort(-scores[wrong].max(axis=1), kind="stable")][:SUREST_ERRORS]


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
        reliability=reliability(scores.max(axis=1), correct),
    )


def measure_regression(
    values: Scores, targets: npt.NDArray[Any], *, split: str, inputs: npt.NDArray[Any] | None = None
) -> Figures:
    """Measures a regression by its mean squared error; with inputs, also that of the best plane.

    The best plane is that of least squares, in closed form, on the same samples.

    Args:
        values: float [N, values], the predictions.
        targets: real [N] or [N, values], the true values.
        split: the samples' split, such as training.
        inputs: real [N, features], the model's inputs; None: no plane is fitted.
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
    """Returns scores [N, classes]: a single score p of two classes becomes 1 − p and p; others stay unchanged.

    Args:
        scores: float [N, scores].
        names: the classes' names in index order.
    """
    # A single score has two classes if it has several names.
    return np.concatenate([1 - scores, scores], axis=1) if scores.shape[1] == 1 < len(names) else scores


def as_served(scores: Scores, names: Sequence[str], kind: OutputKind | None) -> Scores:
    """Returns a model's scores as interpreted by the server: probabilities from logits, both classes of a single unit.

    Args:
        scores: float [N, columns], the model's output.
        names: the classes' names in index order.
        kind: the kind of the output, or None if unknown.

    Returns:
        Float [N, classes], for `measure`; unchanged if the kind is unknown, except that a single unit outside 0 to 1 is
        a score.
    """
    if kind is None and is_single_unit(scores.shape[1], len(names)) and contradict(scores, "sigmoids").any():
        kind = "scores"
    if kind is None or (kind in ("probabilities", "sigmoids") and scores.shape[1] > 1):
        return scores
    return as_probabilities(each_class(scores, kind, len(class_names(names))), kind)


def class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of all classes: a model with a single label has two."""
    return (f"not {names[0]}", names[0]) if len(names) == 1 else tuple(names)


def confusion(scores: Scores, labels: Labels) -> npt.NDArray[np.int64]:
    """Returns the confusion matrix, int64 [classes, classes], with true labels in rows.

    Args:
        scores: float [N, classes], as in `measure`.
        labels: integer [N], the index of each sample's label.
    """
    classes = max(scores.shape[1], 2)
    pairs = labels.astype(int) * classes + predictions(scores)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def predictions(scores: Scores) -> npt.NDArray[np.int64]:
    """Returns the index of each sample's predicted label, int64 [N], from scores as in `measure`."""
    return (scores.argmax(axis=1) if scores.shape[1] > 1 else scores[:, 0] > _HALF).astype(np.int64)


def expected_calibration_error(confidence: Scores, correct: npt.NDArray[np.bool_]) -> float:
    """Returns the mean distance of accuracy from confidence over equal-width bins, weighted by their samples.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.

    Args:
        confidence: float [N], each prediction's probability, in 0 to 1.
        correct: bool [N], whether the prediction is the true label.
    """
    gaps = _sums(confidence, correct - confidence.astype(np.float64))
    return float(np.abs(gaps).sum() / len(confidence))


def reliability(confidence: Scores, correct: npt.NDArray[np.bool_]) -> list[ReliabilityBin]:
    """Returns mean confidence and accuracy of each bin; arguments as in `expected_calibration_error`."""
    counts, confidences, hits = (
        _sums(confidence, weights) for weights in (np.ones(len(confidence)), confidence.astype(np.float64), correct)
    )
    return [
        ReliabilityBin(samples=int(count), confidence=float(sure / count), accuracy=float(right / count))
        if count
        else ReliabilityBin(samples=0)
        for count, sure, right in zip(counts, confidences, hits, strict=True)
    ]


def _sums(confidence: Scores, weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # A bin includes its upper edge, as in the paper.
    bins = np.ceil(confidence.astype(np.float64) * CALIBRATION_BINS).astype(int).clip(1, CALIBRATION_BINS) - 1
    return np.bincount(bins, weights=weights, minlength=CALIBRATION_BINS)


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
