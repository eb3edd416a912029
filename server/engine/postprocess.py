"""Postprocessing of a model's outputs."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pixelserve.scores import is_single_unit

from .tensors import Array


def best_classes(scores: Array, k: int) -> npt.NDArray[np.intp]:
    """Returns the indices of each row's `k` best classes, best first; equal scores in the order of their index.

    Args:
        scores: shape [rows, classes], any real type.
        k: number of classes; more than exist means all.

    Returns:
        Shape [rows, min(k, classes)].
    """
    # A stable sort of the negated scores keeps equal ones in index order.
    return np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :k]


def top_classes(scores: Array, k: int, labels: Sequence[str]) -> list[list[bytes]]:
    """Returns each row's `k` best classes in the format of Triton's classification extension.

    Args:
        scores: shape [rows, classes], any real type.
        k: number of classes; more than exist means all.
        labels: class labels in index order, or empty. With two labels for a single column neither is written, because
            the number stands for both.

    Returns:
        For each row, best first, `value:index` or `value:index:label`, the value with six decimals; equal scores in
        the order of their index.
    """
    if is_single_unit(scores.shape[1], len(labels)):
        # The only number is the second class's, at index 0.
        labels = ()
    best = best_classes(scores, k)
    return [[_element(scores[row, index], int(index), labels) for index in indices] for row, indices in enumerate(best)]


def _element(score: float, index: int, labels: Sequence[str]) -> bytes:
    text = f"{score:f}:{index}"
    # A model with a free number of classes may have more than there are labels.
    return (f"{text}:{labels[index]}" if index < len(labels) else text).encode()
