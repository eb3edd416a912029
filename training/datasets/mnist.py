"""MNIST and Fashion-MNIST, from their official IDX files or Keras's downloader."""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import DataError
from . import idx, kaggle
from .dataset import Array, Dataset, Source, Split
from .download import from_keras

_FILES = tuple(f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


_IMAGE_SIZE = (28, 28)


@dataclass(frozen=True)
class _Variant:
    title: str
    labels: tuple[str, ...]
    # Hashes of the official files, by `_fingerprint`.
    sha256: str
    # The module in keras.datasets.
    keras: str


_VARIANTS = {
    "mnist": _Variant(
        title="MNIST",
        labels=tuple("0123456789"),
        sha256="e51feb17284eb1069e0820171a69b09d04ae6bb26b9a49f565a2700eabbdd07c",
        keras="mnist",
    ),
    "fashion-mnist": _Variant(
        title="Fashion-MNIST",
        labels=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        sha256="507fc8453d1ab8faeb6bbaaf1a8698ba3269e012c225e44d8cc7ea1f348f9a2b",
        keras="fashion_mnist",
    ),
}


def load(name: str, data_dir: Path | None) -> Dataset:
    """Loads mnist or fashion-mnist from IDX files in `data_dir`, else through Keras's downloader and its cache.

    The files may lie in `data_dir/<name>` or in `data_dir` itself, gzipped (.gz) or not; or Kaggle's instead.

    Raises:
        DataError: a file is missing or damaged, or there are none and Keras cannot download them.
    """
    folder = _find_folder(name, data_dir) if data_dir is not None else None
    if folder is not None:
        arrays = _read_files(name, folder)
    elif data_dir is not None and (found := kaggle.read_tables(name, (data_dir / name, data_dir))):
        arrays, is_cut = found
        return _dataset(name, arrays, origin=data_dir, note=kaggle.NOTE if is_cut else "")
    else:
        source = _VARIANTS[name]
        arrays = from_keras(source.keras, source.title, data_dir, remedy=where_to_put(name))
    return _dataset(name, arrays, origin=folder)


def _find_folder(name: str, data_dir: Path) -> Path | None:
    folders = (data_dir / name, data_dir)
    return next((folder for folder in folders if any(_find_file(folder, file) for file in _FILES)), None)


def _find_file(folder: Path, file: str) -> Path | None:
    return next((path for path in (folder / f"{file}.gz", folder / file) if path.is_file()), None)


def _read_files(name: str, folder: Path) -> list[Array]:
    paths = [_find_file(folder, file) for file in _FILES]
    missing = [f"{file}.gz" for file, path in zip(_FILES, paths, strict=True) if path is None]
    if missing:
        raise DataError(f"{folder}: {' and '.join(missing)} missing; {where_to_put(name)}")
    return [idx.read(path, rank=3 if "images" in path.name else 1) for path in paths if path is not None]


def _dataset(name: str, arrays: list[Array], *, origin: Path | None, note: str = "") -> Dataset:
    source = _VARIANTS[name]
    train_images, train_labels, test_images, test_labels = arrays
    fingerprint = _fingerprint(arrays)
    return Dataset(
        name=source.title,
        task="image",
        labels=source.labels,
        train=_split(train_images, train_labels, source, origin),
        test=_split(test_images, test_labels, source, origin),
        sha256=fingerprint,
        sealed=True,
        note=note or ("" if fingerprint == source.sha256 else f"these are not the official {source.title} files"),
    )


def _split(images: Array, labels: Array, source: _Variant, origin: Path | None) -> Split:
    where = origin or source.title
    if len(images) != len(labels) or not len(images):
        raise DataError(f"{where}: {len(images)} images with {len(labels)} labels; download the files again")
    if images.shape[1:] != _IMAGE_SIZE:
        raise DataError(
            f"{where}: images are {images.shape[1]} × {images.shape[2]}, {source.title}'s are 28 × 28; "
            f"download the files again"
        )
    if labels.max() >= len(source.labels):
        raise DataError(
            f"{where}: a label is {labels.max()}, {source.title} has {len(source.labels)} classes; "
            f"download the files again"
        )
    return Split(images[..., np.newaxis], labels)


def _fingerprint(arrays: list[Array]) -> str:
    digest = hashlib.sha256()
    for file, array in zip(_FILES, arrays, strict=True):
        digest.update(file.encode())
        digest.update(idx.encode(array))
    return digest.hexdigest()


def where_to_put(name: str) -> str:
    """Returns what to do if the files are missing."""
    return (
        f"put {', '.join(f'{file}.gz' for file in _FILES)} into DIR/{name} "
        f"and give --data-dir DIR (or set PIXELSERVE_DATA_DIR=DIR)"
    )


SOURCES = {name: Source(partial(load, name), (*_IMAGE_SIZE, 1)) for name in _VARIANTS}
