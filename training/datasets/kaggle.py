"""MNIST, Fashion-MNIST and CIFAR-10 in the files of Kaggle's competitions and data sets.

mnist          train.csv of the competition digit-recognizer: label,pixel0,...,pixel783; its test.csv has no labels.
               mnist_train.csv and mnist_test.csv: label,1x1,...,28x28
fashion-mnist  fashion-mnist_train.csv and fashion-mnist_test.csv: label,pixel1,...,pixel784
cifar10        trainLabels.csv of the competition cifar-10: id,label; train/ID.png; its test/ has no labels

Where the test images have no labels, a fixed fifth of each class of the others is the test split.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pixelserve.imaging.decode import MAX_PIXELS, decode_file
from pixelserve.imaging.errors import ImageError
from pixelserve.imaging.prepare import prepare
from pixelserve.imaging.spec import PictureSpec

from ..errors import DataError
from ..progress import tracked
from .dataset import Array

NOTE = "Kaggle's competition files, without labels for its test images: a fixed fifth is the test split"

_SIDE = 28
_PIXELS = _SIDE * _SIDE
_WHITE = 255
# By data set: the names of the training file and of the test file, or None where the latter has no labels.
_TABLES: dict[str, tuple[tuple[str, str | None], ...]] = {
    "mnist": (("mnist_train.csv", "mnist_test.csv"), ("train.csv", None)),
    "fashion-mnist": (("fashion-mnist_train.csv", "fashion-mnist_test.csv"),),
}
_CIFAR_LABELS, _CIFAR_FOLDER = "trainLabels.csv", "train"
_CIFAR_SIDE = 32
_TEST_SHARE, _SEED = 0.2, 1


def read_tables(name: str, folders: Sequence[Path]) -> tuple[list[Array], bool] | None:
    """Returns the arrays of mnist or fashion-mnist, or None if no folder holds Kaggle's files.

    Args:
        name: mnist or fashion-mnist.
        folders: where to look.

    Returns:
        Training images uint8 [N, 28, 28] and labels uint8 [N], then test images and labels; and whether the test split
        is a part of the training images.

    Raises:
        DataError: a file is missing or damaged.
    """
    for folder in folders:
        for train, test in _TABLES[name]:
            if not (folder / train).is_file():
                continue
            images, labels = _read_table(folder / train)
            if test is None:
                chosen = _fifth(labels)
                return [images[~chosen], labels[~chosen], images[chosen], labels[chosen]], True
            if not (folder / test).is_file():
                raise DataError(f"{folder}: {test} is missing beside {train}; download it from the same place")
            return [images, labels, *_read_table(folder / test)], False
    return None


def _read_table(path: Path) -> tuple[Array, Array]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            columns = file.readline().strip().split(",")
            if len(columns) != 1 + _PIXELS or columns[0].strip('"').lower() != "label":
                raise DataError(
                    f"{path}: its first line names {len(columns)} columns, the first is {columns[0]!a}; expected label "
                    f"and {_PIXELS} pixels"
                )
            rows = np.loadtxt(file, dtype=np.int16, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}; download the file again") from error
    if rows.shape[1:] != (1 + _PIXELS,) or not len(rows) or rows.min() < 0 or rows.max() > _WHITE:
        raise DataError(
            f"{path}: expected rows of {1 + _PIXELS} numbers of 0 to {_WHITE}, at least one; download it again"
        )
    levels = rows.astype(np.uint8)
    return np.ascontiguousarray(levels[:, 1:]).reshape(-1, _SIDE, _SIDE), levels[:, 0].copy()


def has_cifar(folder: Path) -> bool:
    """Returns whether a folder holds the competition's files of CIFAR-10."""
    return (folder / _CIFAR_LABELS).is_file()


def read_cifar(folder: Path, names: Sequence[str]) -> list[Array]:
    """Returns training images uint8 [N, 32, 32, 3] and labels uint8 [N] of CIFAR-10, then test images and labels.

    Args:
        folder: holds trainLabels.csv and train/.
        names: the classes' names in index order.

    Raises:
        DataError: a file is missing or damaged, or a label is unknown.
    """
    path = folder / _CIFAR_LABELS
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}; download the file again") from error
    if not rows or not {"id", "label"} <= rows[0].keys():
        raise DataError(f"{path}: expected the columns id and label, and a row for each image; download it again")
    if unknown := sorted({row["label"] for row in rows} - set(names)):
        raise DataError(f"{path}: the label {unknown[0]!a}; expected one of {', '.join(names)}")
    images = np.stack([_read_image(folder / _CIFAR_FOLDER / f"{row['id']}.png") for row in tracked(rows, "reading")])
    labels = np.array([names.index(row["label"]) for row in rows], np.uint8)
    chosen = _fifth(labels)
    return [images[~chosen], labels[~chosen], images[chosen], labels[chosen]]


def _read_image(path: Path) -> Array:
    try:
        image = decode_file(path.read_bytes(), MAX_PIXELS)
    except (OSError, ImageError) as error:
        raise DataError(f"{path}: cannot be read: {error}; unpack train.7z again") from error
    if image.size != (_CIFAR_SIDE, _CIFAR_SIDE):
        raise DataError(f"{path}: {image.size[0]} × {image.size[1]} pixels, CIFAR-10's are 32 × 32; unpack it again")
    return prepare(image, PictureSpec(_CIFAR_SIDE, _CIFAR_SIDE, 3))


def _fifth(labels: Array) -> Array:
    """Returns which samples are the test split, bool [N]: a fifth of each class, the same in every run."""
    order = np.random.default_rng(_SEED).permutation(len(labels))
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        chosen[of_class[: max(round(len(of_class) * _TEST_SHARE), 1)]] = True
    return chosen
