"""Reads the pictures of an .npz file: arrays of pixels and of labels."""

import hashlib
from pathlib import Path

import numpy as np

from pixelserve.arrays import ArraysError, read_arrays
from pixelserve.imaging.decode import MAX_PIXELS, decode_raw
from pixelserve.imaging.prepare import prepare
from pixelserve.imaging.spec import PictureSpec

from ...errors import DataError
from ...progress import tracked
from ..dataset import Array
from .listing import SplitName, check_label, in_order, named
from .pictures import MOST_BYTES, Pictures, check_memory

# By split: the arrays' possible names. Keras's own .npz files have x_train, y_train, x_test and y_test.
_NAMES: dict[SplitName, tuple[tuple[str, str], ...]] = {
    "train": (("x_train", "y_train"), ("x", "y"), ("train_x", "train_y"), ("images", "labels")),
    "validation": (("x_val", "y_val"), ("x_validation", "y_validation"), ("val_x", "val_y")),
    "test": (("x_test", "y_test"), ("test_x", "test_y")),
}
_CLASSES = "classes"
_CHANNELS = (1, 3)
_WHITE = 255


def read_npz(file: Path, spec: PictureSpec) -> tuple[tuple[str, ...], Pictures]:
    """Returns the labels and the pictures of an .npz file.

    It holds x [N, H, W], [N, H, W, 1] or [N, H, W, 3] with levels of 0 to 255, and y [N] with numbers or names;
    optionally x_val, y_val, x_test and y_test, and `classes` with the names of numbers from 0.

    Args:
        file: the file.
        spec: the network's pictures; others are resized as a server resizes them.

    Raises:
        DataError: the file is damaged or too large, lacks an array, or its arrays do not fit.
    """
    try:
        arrays = read_arrays(file, MOST_BYTES)
    except (ArraysError, OSError) as error:
        raise DataError(f"--images {file}: cannot be read as an .npz file: {error}") from error
    found = {split: pair for split, names in _NAMES.items() if (pair := _find(file, arrays, split, names))}
    if "train" not in found:
        raise DataError(
            f"--images {file}: no arrays x and y, or x_train and y_train; it has {', '.join(arrays) or 'none'}"
        )
    for split, (x, y) in found.items():
        _check(file, split, x, y)
    check_memory(file, sum(len(y) for _, y in found.values()), spec)
    titles = {split: _titles(file, y, arrays.get(_CLASSES)) for split, (_, y) in found.items()}
    labels = _labels(file, titles)
    index = {label: number for number, label in enumerate(labels)}
    pictures = [(split, number) for split, (x, _) in found.items() for number in range(len(x))]
    in_splits = len(found) > 1
    return labels, Pictures(
        np.stack([_prepared(found[split][0][number], spec) for split, number in tracked(pictures, "reading pictures")]),
        np.array([index[titles[split][number]] for split, number in pictures], np.int64),
        [split if in_splits else None for split, _ in pictures],
        [f"picture {number} of {split}" for split, number in pictures],
        [hashlib.sha256(found[split][0][number].tobytes()).hexdigest() for split, number in pictures],
        [f"{split}\0{titles[split][number]}" for split, number in pictures],
    )


def _find(
    file: Path, arrays: dict[str, Array], split: SplitName, names: tuple[tuple[str, str], ...]
) -> tuple[Array, Array] | None:
    for x, y in names:
        if (x in arrays) != (y in arrays):
            given, missing = (x, y) if x in arrays else (y, x)
            raise DataError(f"--images {file}: {given} without {missing}; expected both for the {split} split")
        if x in arrays:
            return arrays[x], arrays[y]
    return None


def _check(file: Path, split: str, x: Array, y: Array) -> None:
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in _CHANNELS) or not x.size:
        raise DataError(
            f"--images {file}: the {split} pictures have the shape {list(x.shape)}; expected [pictures, height, "
            f"width], with 1 or 3 channels last or none"
        )
    if y.reshape(len(y), -1).shape != (len(x), 1) or y.dtype.kind not in "iuU":
        raise DataError(
            f"--images {file}: the {split} labels are {y.dtype} {list(y.shape)}; expected a number or a name for each "
            f"of {len(x):,} pictures"
        )
    # NaN is in no range.
    is_of_levels = x.dtype.kind in "uif" and x.min() >= 0 and x.max() <= _WHITE
    if not is_of_levels or (x.dtype.kind == "f" and x.max() <= 1):
        raise DataError(
            f"--images {file}: the {split} pictures are {x.dtype} from {x.min():g} to {x.max():g}; expected levels of "
            f"0 to 255: do not scale them"
        )


def _titles(file: Path, y: Array, classes: Array | None) -> list[str]:
    values = y.reshape(-1)
    if values.dtype.kind == "U" or classes is None:
        return [str(value) for value in values]
    if values.min() < 0 or values.max() >= len(classes):
        raise DataError(
            f"--images {file}: a label is {values.max() if values.min() >= 0 else values.min()}; {_CLASSES} has names "
            f"for 0 to {len(classes) - 1}"
        )
    return [str(classes[value]) for value in values]


def _labels(file: Path, titles: dict[SplitName, list[str]]) -> tuple[str, ...]:
    learned = set(titles["train"])
    if unknown := sorted({title for each in titles.values() for title in each} - learned):
        raise DataError(f"--images {file}: {named(unknown)}: labels of no training picture")
    if len(learned) < 2:
        raise DataError(f"--images {file}: the only label is {next(iter(learned))}; expected at least two")
    for label in learned:
        check_label(label, f"--images {file}: the label")
    return in_order(learned)


def _prepared(pixels: Array, spec: PictureSpec) -> Array:
    levels = np.rint(pixels).astype(np.uint8)
    height, width, channels = (*levels.shape, 1)[:3]
    return prepare(decode_raw(levels.tobytes(), height, width, channels, MAX_PIXELS), spec)
