"""CIFAR-10, from its official binary files or Keras's downloader.

A file holds records of 3,073 bytes: the label, then 1,024 red, 1,024 green and 1,024 blue pixels, row by row. Described
at https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import hashlib
from pathlib import Path

import numpy as np

from ..errors import DataError
from . import kaggle
from .dataset import Array, Dataset, Source, Split
from .download import from_keras

_TITLE = "CIFAR-10"
_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FOLDER = "cifar-10-batches-bin"
_TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST_FILE = "test_batch.bin"
_CHANNELS, _HEIGHT, _WIDTH = 3, 32, 32
_RECORD_BYTES = 1 + _CHANNELS * _HEIGHT * _WIDTH

# A copy whose images went through JPEG compression of quality 75; the zoo's figures were measured on it.
_JPEG_SHA256 = "fdf07773e059bbd3f89fa9704df67e9e1baaf94bba2d367e2d4d9f3649ac79e0"


def load(data_dir: Path | None) -> Dataset:
    """Loads the binary files in `data_dir`, else the data set through Keras's downloader and its cache.

    The files may be in `data_dir/cifar-10-batches-bin`, `data_dir/cifar10` or `data_dir` itself; or Kaggle's instead.

    Raises:
        DataError: a file is missing or damaged, or there are none and Keras cannot download them.
    """
    folder = _find_folder(data_dir) if data_dir is not None else None
    if folder is None and (of_kaggle := _of_kaggle(data_dir)) is not None:
        records, note = _cut(kaggle.read_cifar(of_kaggle, _LABELS)), kaggle.NOTE
    else:
        records, note = _read_files(folder) if folder is not None else _download(data_dir), ""
    fingerprint = _fingerprint(records)
    return Dataset(
        name=_TITLE,
        task="image",
        labels=_LABELS,
        train=_split(records[:-1]),
        test=_split(records[-1:]),
        sha256=fingerprint,
        sealed=True,
        note=note or _note(fingerprint),
    )


def _folders(data_dir: Path) -> tuple[Path, ...]:
    return (data_dir / _FOLDER, data_dir / "cifar10", data_dir)


def _find_folder(data_dir: Path) -> Path | None:
    return next((folder for folder in _folders(data_dir) if (folder / _TEST_FILE).is_file()), None)


def _of_kaggle(data_dir: Path | None) -> Path | None:
    return next((folder for folder in _folders(data_dir) if kaggle.has_cifar(folder)), None) if data_dir else None


def _read_files(folder: Path) -> list[Array]:
    missing = [name for name in _TRAIN_FILES if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder}: {' and '.join(missing)} missing; {_where_to_put()}")
    records = [_read(folder / name) for name in (*_TRAIN_FILES, _TEST_FILE)]
    counts = [len(part) for part in records[:-1]]
    if len(set(counts)) != 1:
        found = ", ".join(map(str, counts))
        raise DataError(f"{folder}: the five training files hold {found} images, expected equally many; download again")
    return records


def _read(path: Path) -> Array:
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); download the file again") from error
    if not len(content) or len(content) % _RECORD_BYTES:
        raise DataError(
            f"{path}: {len(content)} bytes, expected a multiple of {_RECORD_BYTES}; "
            f"the file is truncated or damaged: download it again"
        )
    records = content.reshape(-1, _RECORD_BYTES)
    if records[:, 0].max() >= len(_LABELS):
        raise DataError(
            f"{path}: a label is {records[:, 0].max()}, {_TITLE} has {len(_LABELS)} classes; download the file again"
        )
    return records


def _download(data_dir: Path | None) -> list[Array]:
    return _cut(from_keras("cifar10", _TITLE, data_dir, remedy=_where_to_put()))


def _cut(arrays: list[Array]) -> list[Array]:
    """Returns records in as many parts as the official files."""
    train_images, train_labels, test_images, test_labels = arrays
    train = _records(train_images, train_labels)
    return [*np.array_split(train, len(_TRAIN_FILES)), _records(test_images, test_labels)]


def _records(images: Array, labels: Array) -> Array:
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels.reshape(-1, 1), planes], axis=1)


def _split(parts: list[Array]) -> Split:
    records = np.concatenate(parts)
    planes = records[:, 1:].reshape(-1, _CHANNELS, _HEIGHT, _WIDTH)
    return Split(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0].copy())


def _fingerprint(records: list[Array]) -> str:
    digest = hashlib.sha256()
    for name, part in zip((*_TRAIN_FILES, _TEST_FILE), records, strict=True):
        digest.update(name.encode())
        digest.update(part.tobytes())
    return digest.hexdigest()


def _note(fingerprint: str) -> str:
    if fingerprint == _JPEG_SHA256:
        return "a lossy copy: the images went through JPEG compression of quality 75"
    # The official files were not available when this was written, so their hash is unknown.
    return "not the files that this project's figures were measured on, a lossy JPEG copy"


def _where_to_put() -> str:
    return (
        f"put {_TRAIN_FILES[0]} to {_TRAIN_FILES[-1]} and {_TEST_FILE} into DIR/{_FOLDER} "
        f"and give --data-dir DIR (or set PIXELSERVE_DATA_DIR=DIR)"
    )


SOURCES = {"cifar10": Source(load, (_HEIGHT, _WIDTH, _CHANNELS))}
