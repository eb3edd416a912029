"""Interprets a classifier's output and converts it to probabilities.

Training and the server share this definition, so a card's figures apply to what is served.
"""

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Scores = npt.NDArray[np.float64]

OutputKind = Literal["probabilities", "logits", "sigmoids", "scores"]
"""probabilities: of mutually exclusive classes; logits: a softmax turns them into these; sigmoids: an independent
probability for each class; scores: higher is better, nothing more is known."""

OUTPUT_KINDS: tuple[OutputKind, ...] = get_args(OutputKind)
OUTPUT_KIND = "output_kind"
"""The parameter of config.pbtxt that declares the kind."""

# How far a probability may be outside 0 to 1, and a row's sum from 1, with half precision and int8.
_TOLERANCE = 1e-2
_TWO_CLASSES = 2


def parameter(kind: str) -> str:
    """Returns the line of config.pbtxt that declares a kind."""
    return f'parameters {{ key: "{OUTPUT_KIND}" value {{ string_value: "{kind}" }} }}'


def is_single_unit(columns: int, labels: int) -> bool:
    """Returns whether an output distinguishes two labelled classes with one number."""
    return columns == 1 and labels == _TWO_CLASSES


def each_class(values: Array, kind: OutputKind, labels: int) -> Scores:
    """Returns one column per class.

    A single unit of two labelled classes stands for the second: p becomes 1 - p and p, a logit x becomes 0 and x, and a
    score x becomes -x and x, because such scores are trained to be above 0 for the second class.

    Args:
        values: real [N, columns], a classifier's output.
        kind: the kind of its numbers.
        labels: the output's number of labels; 0: none.

    Returns:
        float64 [N, classes]; higher is better.
    """
    columns = values.astype(np.float64)
    if not is_single_unit(columns.shape[1], labels):
        return columns
    other = {"logits": np.zeros_like(columns), "scores": -columns}.get(kind, 1 - columns)
    return np.concatenate([other, columns], axis=1)


def as_probabilities(columns: Scores, kind: OutputKind) -> Scores:
    """Returns probabilities from the columns of `each_class`; scores are unchanged.

    Rows with NaN or infinity keep an element that is not finite.
    """
    if kind == "scores":
        return columns
    if kind == "logits" and columns.shape[1] == 1:
        return as_probabilities(np.concatenate([np.zeros_like(columns), columns], axis=1), kind)[:, 1:]
    if kind == "logits":
        # -inf excludes a class; NaN and +inf make the row NaN.
        with np.errstate(invalid="ignore"):
            shifted = np.exp(columns - columns.max(axis=1, keepdims=True, initial=-np.inf))
            return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
    return np.where(np.isfinite(columns), columns.clip(0, 1), columns)


def are_finite(rows: Array) -> npt.NDArray[np.bool_]:
    """Returns which rows have neither NaN nor an infinity: bool [N]."""
    return np.asarray(np.isfinite(rows).all(axis=1))


def contradict(values: Array, kind: OutputKind) -> npt.NDArray[np.bool_]:
    """Returns which finite rows of an output contradict `kind` by values outside 0 to 1: bool [N]."""
    if kind not in ("probabilities", "sigmoids"):
        return np.zeros(len(values), np.bool_)
    outside = ((values < -_TOLERANCE) | (values > 1 + _TOLERANCE)).any(axis=1)
    return np.asarray(outside & are_finite(values))


def look_like_probabilities(values: Array, labels: int) -> npt.NDArray[np.bool_]:
    """Returns which rows could be probabilities of mutually exclusive classes: bool [N].

    A row must not be negative and must add up to 1; a single unit of two labelled classes must be within 0 to 1.
    """
    columns = values.astype(np.float64)
    if columns.shape[1] == 1:
        within = (columns >= 0) & (columns <= 1)
        return np.asarray(within[:, 0] & is_single_unit(1, labels))
    with np.errstate(invalid="ignore"):
        sums = np.abs(columns.sum(axis=1) - 1) <= _TOLERANCE
    return np.asarray(sums & (columns >= 0).all(axis=1))
