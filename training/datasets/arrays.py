"""A data set from NumPy arrays, for a user's own recipe."""

import hashlib
from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from .dataset import Array, Dataset, Split

_IMAGE_AXES = 4
_ROW_AXES = 2


def from_arrays(
    name: str,
    train: tuple[Array, Array],
    test: tuple[Array, Array] | None = None,
    *,
    labels: Sequence[str] = (),
    features: Sequence[str] = (),
    target: str = "",
) -> Dataset:
    """Returns the data set of some samples and targets.

    Args:
        name: its name.
        train: the training split: images uint8 [N, H, W, C] or rows of numbers [N, features], which become float32; and
            their targets [N], indices of labels or, in a regression, values.
        test: the test split; None: there is none, and figures are of the training samples unless some are held out.
        labels: the classes' names in index order; none in a regression.
        features: the names of the columns of rows.
        target: the name of the value that a regression predicts.

    Raises:
        DataError: the arrays do not fit together.
    """
    if len(set(labels)) < len(labels):
        raise DataError(f"{name}: a label is given twice in {', '.join(labels)}; give each class a name of its own")
    splits = [_split(name, *arrays, classes=len(labels)) for arrays in ((train,) if test is None else (train, test))]
    if splits[0].inputs.shape[1:] != splits[-1].inputs.shape[1:]:
        raise DataError(
            f"{name}: training samples are {list(splits[0].inputs.shape[1:])}, test samples "
            f"{list(splits[-1].inputs.shape[1:])}; give the same shape"
        )
    if features and splits[0].inputs.shape[1:] != (len(features),):
        raise DataError(
            f"{name}: {len(features)} names of features for samples {list(splits[0].inputs.shape[1:])}; "
            f"name each column"
        )
    return Dataset(
        name=name,
        task="regression" if not labels else "image" if splits[0].inputs.ndim == _IMAGE_AXES else "tabular",
        labels=tuple(labels),
        train=splits[0],
        test=splits[-1],
        sha256=fingerprint(name, *splits),
        features=tuple(features),
        target=target,
    )


def fingerprint(name: str, *splits: Split) -> str:
    """Returns the SHA-256 hash of a name and the bytes of the splits' arrays, in hex."""
    digest = hashlib.sha256(name.encode())
    for split in splits:
        for array in (split.inputs, split.targets):
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def _split(name: str, inputs: Array, targets: Array, *, classes: int) -> Split:
    inputs, targets = np.asarray(inputs), np.asarray(targets)
    if len(inputs) != len(targets) or not len(inputs):
        raise DataError(f"{name}: {len(inputs)} samples with {len(targets)} targets; give one target per sample")
    if inputs.ndim == _ROW_AXES:
        inputs = _numbers(name, inputs, "samples")
        if not np.isfinite(inputs).all():
            raise DataError(f"{name}: a sample has NaN or infinity; remove it, or give it a number")
    elif inputs.ndim != _IMAGE_AXES or inputs.dtype != np.uint8:
        raise DataError(
            f"{name}: samples are {inputs.dtype} {list(inputs.shape)}; expected images uint8 [N, height, width, "
            f"channels] or rows of numbers [N, features]"
        )
    if targets.ndim != 1:
        raise DataError(f"{name}: targets are {list(targets.shape)}; expected one number per sample, [N]")
    if not classes:
        targets = _numbers(name, targets, "targets")
        if not np.isfinite(targets).all():
            raise DataError(f"{name}: a target is NaN or infinity; remove its sample")
        return Split(inputs, targets)
    if targets.dtype.kind not in "iu" or targets.min() < 0 or targets.max() >= classes:
        raise DataError(
            f"{name}: targets are {targets.dtype} from {targets.min()} to {targets.max()}; expected integers from 0 to "
            f"{classes - 1}, the indices of the {classes} labels"
        )
    return Split(inputs, targets.astype(np.min_scalar_type(classes - 1)))


def _numbers(name: str, array: Array, what: str) -> Array:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name}: {what} are {array.dtype}; expected numbers")
    # What float32 cannot hold becomes infinite, which is refused.
    with np.errstate(over="ignore"):
        return array.astype(np.float32)
