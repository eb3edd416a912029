"""Figures of a model, from its outputs and what it was to predict; NumPy alone."""

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
    Confusion,
    Evaluation,
    ReliabilityBin,
    SurestError,
)
from pixelserve.scores import OutputKind, as_probabilities, contradict, each_class, is_single_unit

from .calibrate import apply_temperature

CALIBRATION_BINS = 15
BASELINE_BINS = 20
_HALF = 0.5

Scores = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.integer[Any]]
PictureOf = Callable[[int], str | None]
"""Returns a sample's picture in base64, by its index; None: it is not one."""


@dataclass(frozen=True)
class Figures:
    """What was measured on one split."""

    evaluation: Evaluation
    """Accuracy, recall by label, and what was taken for what; of a regression, its error."""
    calibration: Calibration | None = None
    """How far confidence is from accuracy; None: the outputs are no probabilities."""
    baseline: Baseline | None = None
    """What predictions look like; None: the outputs are no probabilities."""

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
        scores: float [N, classes], the highest one is the prediction; of a single one, it is whether the score is above
            a half.
        labels: integer [N], the index of each sample's label.
        names: the labels in index order.
        split: what the samples are, such as test.
        temperature: what the model divides its logits by, to tell calibration without it as well; None: nothing.
        picture_of: returns the pictures of the most confident errors.
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
        confusion=_confusion(scores, labels, names),
        surest_errors=_errors(scores, labels, names, picture_of),
    )
    if not _are_probabilities(scores):
        return Figures(evaluation)
    return Figures(evaluation, _calibration(scores, correct, temperature), _baseline(scores, names))


def _confusion(scores: Scores, labels: Labels, names: Sequence[str]) -> Confusion | None:
    # A graph may leave open how many classes it has.
    if len(names) > CONFUSION_LABELS or scores.shape[1] != len(names):
        return None
    return Confusion(labels=list(names), counts=confusion(scores, labels).tolist())


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
    """Returns the indices of the wrong predictions of the highest scores, highest first, at most `SUREST_ERRORS`.

    Args:
        scores: float [N, classes], the highest one is the prediction.
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
    gaps = _sums(confidence, correct - confidence.astype(np.float64))
    return float(np.abs(gaps).sum() / len(confidence))


def reliability(confidence: Scores, correct: npt.NDArray[np.bool_]) -> list[ReliabilityBin]:
    """Returns mean confidence and accuracy of each bin; takes what `expected_calibration_error` takes."""
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
    # A bin holds its upper edge, as in the paper.
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
