"""Samples given with a model: real inputs, and their labels if known."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelserve.text import LABELS_BYTES, TextError, read_lines

from ..errors import SamplesError
from ..progress import say
from ..runtime import Array, OnnxModel, Tensor

_LABELS = ("y", "labels")
_TARGETS = ("y", "targets")
_INPUTS = ("x", "inputs")
# A single score distinguishes two classes.
_TWO_CLASSES = 2
_PICTURE_AXES = 3
_WHITE = 255


@dataclass(frozen=True)
class Samples:
    """Real inputs of a model, with labels if known."""

    inputs: dict[str, Array]
    """Input tensors by name, in the model's element types, samples along the first axis."""
    labels: Array | None
    """Label indices, integers [N]; for a run's regression values, floats [N]; None if unknown."""

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(next(iter(self.inputs.values())))

    def first(self, count: int | None) -> "Samples":
        """Returns the first `count` samples, or all for None."""
        labels = None if self.labels is None else self.labels[:count]
        return Samples({name: array[:count] for name, array in self.inputs.items()}, labels)


def read_labels(path: Path) -> tuple[str, ...]:
    """Reads a label file: one class label per line, in index order.

    Raises:
        SamplesError: it is unreadable or empty, or has an empty line or a duplicate label.
    """
    try:
        labels = read_lines(path, LABELS_BYTES)
    except OSError as error:
        raise SamplesError(f"{path}: cannot be read: {error.strerror}; expected one class label per line") from error
    except TextError as error:
        raise SamplesError(f"{path}: cannot be read: {error}; expected one class label per line") from error
    if not labels or not all(label.strip() for label in labels):
        raise SamplesError(f"{path}: empty, or has an empty line; expected one class label per line")
    if len(set(labels)) != len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise SamplesError(f'{path}: "{twice}" is a duplicate; expected a different label for each class')
    return labels


def can_be_listed(labels: Sequence[str]) -> bool:
    """Returns whether labels can be written to a label file: one per line, without duplicates."""
    return len(set(labels)) == len(labels) and all(label.strip() and label.splitlines() == [label] for label in labels)


def read_samples(path: Path, model: OnnxModel, *, names: Sequence[str]) -> Samples:
    """Reads an .npz file of inputs for `model`, and of labels if it has an array `y` or `labels`.

    A model's only input may be called `x`, `inputs`, or anything else if it is the file's only other array. Labels are
    indices; otherwise the class names or the values that these are made from, as in scikit-learn.

    Args:
        path: the file.
        model: the model of the samples.
        names: class names in index order; empty: its outputs are not classes, and `y` and `labels` are ignored.

    Raises:
        SamplesError: the file is unreadable, or its arrays do not fit the model or each other.
    """
    arrays = _read_npz(path)
    label_key = next((key for key in _LABELS if key in arrays), None)
    labels = arrays.pop(label_key) if label_key else None
    inputs = {tensor.name: _fit(path, _find(path, arrays, tensor, model), tensor, model) for tensor in model.inputs}
    counts = {len(array) for array in inputs.values()}
    if len(counts) != 1 or 0 in counts:
        raise SamplesError(
            f"{path}: expected the same number of samples in each array, at least one; found {sorted(counts)}"
        )
    wanted = labels if names else None
    return Samples(inputs, None if wanted is None else _indices(path, wanted, counts.pop(), names))


def read_targets(path: Path, samples: int) -> Array:
    """Reads a regression's targets from an .npz file's array `y` or `targets`.

    Args:
        path: the file.
        samples: number of samples in the file.

    Returns:
        One or several numbers per sample: float64 [samples, values].

    Raises:
        SamplesError: the file is unreadable, has no such array, or not a number for each sample.
    """
    arrays = _read_npz(path)
    key = next((key for key in _TARGETS if key in arrays), None)
    if key is None:
        raise SamplesError(f"{path}: no array y with the values to predict; it has: {', '.join(arrays) or 'none'}")
    targets = arrays[key]
    if targets.dtype.kind not in "fiu" or targets.ndim == 0 or len(targets) != samples:
        raise SamplesError(
            f"{path}: {key} is {targets.dtype} {list(targets.shape)}, expected a number for each of {samples} samples"
        )
    return targets.astype(np.float64).reshape(samples, -1)


def _read_npz(path: Path) -> dict[str, Array]:
    try:
        # Opened here, because NumPy does not close a file that it opened and found damaged.
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                raise SamplesError(f"{path}: one array; expected an .npz file: numpy.savez('{path.stem}.npz', x=array)")
            return {key: loaded[key] for key in loaded.files}
    except SamplesError:
        raise
    except OSError as error:
        raise SamplesError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # NumPy and zipfile raise half a dozen types for a damaged file
        objects = "Object arrays" in str(error)
        remedy = "; save strings as NumPy strings: numpy.savez(FILE, NAME=values.astype(str))" if objects else ""
        raise SamplesError(f"{path}: cannot be read as an .npz file: {error}{remedy}") from error


def _find(path: Path, arrays: Mapping[str, Array], tensor: Tensor, model: OnnxModel) -> Array:
    if tensor.name in arrays:
        return arrays[tensor.name]
    if len(model.inputs) == 1:
        named = [key for key in _INPUTS if key in arrays] or (list(arrays) if len(arrays) == 1 else [])
        if len(named) == 1:
            return arrays[named[0]]
    raise SamplesError(
        f'{path}: no array "{tensor.name}" for the model\'s input of that name; it has: {", ".join(arrays) or "none"}'
    )


def _fit(path: Path, array: Array, tensor: Tensor, model: OnnxModel) -> Array:
    expected = model.sample_shape(tensor)
    array = _in_its_axes(array, tensor, model)
    fits = array.ndim == len(expected) + 1 and all(
        size in (-1, found) for size, found in zip(expected, array.shape[1:], strict=True)
    )
    if not fits:
        raise SamplesError(
            f"{path}: {tensor.name} has shape {list(array.shape)}, expected [samples, {', '.join(map(str, expected))}]"
        )
    if _is_picture(tensor, model) and array.dtype.kind == "f":
        array = _pixels(path, array, tensor)
    # NumPy users often have float64 for float32.
    if not np.can_cast(array.dtype, tensor.dtype, "same_kind"):
        raise SamplesError(
            f"{path}: {tensor.name} is {array.dtype}, the model's input is {tensor.dtype}; convert it first"
        )
    if array.dtype == np.uint8 and tensor.dtype.kind == "f":
        say(f"note: {path} holds uint8 for a model of {tensor.dtype}; one trained on scaled pixels needs --pixel-scale")
    return array.astype(tensor.dtype)


def _in_its_axes(array: Array, tensor: Tensor, model: OnnxModel) -> Array:
    expected = model.sample_shape(tensor)
    if expected == (1,) and array.ndim == 1:
        # A table's column.
        return array[:, np.newaxis]
    if model.batches and array.shape[1:2] == (1,) and array.ndim == len(expected) + 2:
        # For a model with a fixed batch of one row.
        return array[:, 0]
    if _is_picture(tensor, model) and array.ndim <= _PICTURE_AXES and array[:1].size == math.prod(expected):
        # Greyscale images without a channel axis, or as rows of pixels.
        return array.reshape(len(array), *expected)
    return array


def _is_picture(tensor: Tensor, model: OnnxModel) -> bool:
    return tensor.dtype == np.uint8 and len(model.sample_shape(tensor)) == _PICTURE_AXES


def _pixels(path: Path, array: Array, tensor: Tensor) -> Array:
    """Returns floats of 0 to 255, such as images from tf.data, as the uint8 pixels that clients send."""
    low, high = float(array.min(initial=255)), float(array.max(initial=0))
    if not (low >= 0 and 1 < high <= _WHITE):
        raise SamplesError(
            f"{path}: {tensor.name} is {array.dtype} from {low:.6g} to {high:.6g}, the model accepts raw pixels; "
            f"give them unscaled, as uint8, 0 to 255"
        )
    pixels = np.rint(array)
    if (pixels != array).any():
        say(f"note: {path} has fractional pixels; they are rounded, as in pictures from clients")
    return pixels.astype(np.uint8)


def _indices(path: Path, labels: Array, samples: int, names: Sequence[str]) -> Array:
    if labels.dtype.kind not in "iuU" or labels.size != samples:
        raise SamplesError(
            f"{path}: labels are {labels.dtype} {list(labels.shape)}, expected an integer for each of {samples} samples"
        )
    labels = labels.reshape(-1)
    values = labels.astype(str).tolist()
    is_index = labels.dtype.kind != "U" and labels.min() >= 0 and labels.max() < max(len(names), _TWO_CLASSES)
    if is_index or (labels.dtype.kind != "U" and not set(values) <= set(names)):
        return labels
    index = {name: number for number, name in enumerate(names)}
    if unknown := sorted(set(values) - index.keys()):
        raise SamplesError(f'{path}: a sample\'s label is "{unknown[0]}"; expected one of {", ".join(names[:20])}')
    return np.array([index[value] for value in values])
