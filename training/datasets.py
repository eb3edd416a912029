"""The public data sets that recipes learn from, out of their official files or Keras's downloader."""

import contextlib
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import frameworks, idx
from .errors import DataError, UsageError
from .progress import say

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint8]

_FILES = tuple(f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


_IMAGE_SIZE = (28, 28)


@dataclass(frozen=True)
class _Source:
    title: str
    labels: tuple[str, ...]
    # Of the official files, as `_fingerprint` hashes them.
    sha256: str
    # The module in keras.datasets.
    keras: str


_SOURCES = {
    "mnist": _Source(
        title="MNIST",
        labels=tuple("0123456789"),
        sha256="e51feb17284eb1069e0820171a69b09d04ae6bb26b9a49f565a2700eabbdd07c",
        keras="mnist",
    ),
    "fashion-mnist": _Source(
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


@dataclass(frozen=True)
class Split:
    """Images with what is on them."""

    images: Pixels
    """Raw pixels, uint8 [N, H, W, C]."""
    labels: Labels
    """Index of each image's label, uint8 [N]."""


@dataclass(frozen=True)
class Dataset:
    """A labelled image data set in its official split."""

    name: str
    """The data set's usual name, such as MNIST."""
    labels: tuple[str, ...]
    """The classes' names in index order."""
    train: Split
    """What a model learns from."""
    test: Split
    """What it is measured on, once."""
    sha256: str
    """Hash over the four official file names, each followed by its file's uncompressed bytes, in hex."""

    @property
    def note(self) -> str:
        """What makes figures measured on it differ from published ones; empty for the official files."""
        official = any(self.sha256 == source.sha256 for source in _SOURCES.values() if source.title == self.name)
        return "" if official else f"these are not the official {self.name} files"


def load(name: str, data_dir: Path | None) -> Dataset:
    """Loads a data set from its IDX files in `data_dir`, else through Keras's downloader and its cache.

    The files may lie in `data_dir/<name>` or in `data_dir` itself, gzipped (.gz) or not.

    Raises:
        UsageError: `data_dir` is no folder.
        DataError: a file is missing or damaged, or there are none and Keras cannot download them.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise UsageError(f"--data-dir {data_dir}: no such folder; {_where_to_put(name)}")
    folder = _find_folder(name, data_dir) if data_dir is not None else None
    arrays = _read_files(name, folder) if folder is not None else _download(name, data_dir)
    return _dataset(name, arrays, origin=folder)


def _find_folder(name: str, data_dir: Path) -> Path | None:
    folders = (data_dir / name, data_dir)
    return next((folder for folder in folders if any(_find_file(folder, file) for file in _FILES)), None)


def _find_file(folder: Path, file: str) -> Path | None:
    return next((path for path in (folder / f"{file}.gz", folder / file) if path.is_file()), None)


def _read_files(name: str, folder: Path) -> list[Pixels]:
    paths = [_find_file(folder, file) for file in _FILES]
    missing = [f"{file}.gz" for file, path in zip(_FILES, paths, strict=True) if path is None]
    if missing:
        raise DataError(f"{folder}: {' and '.join(missing)} missing; {_where_to_put(name)}")
    return [idx.read(path, rank=3 if "images" in path.name else 1) for path in paths if path is not None]


def _download(name: str, data_dir: Path | None) -> list[Pixels]:
    title = _SOURCES[name].title
    if data_dir is not None:
        say(f"no {title} files in {data_dir}; asking Keras's downloader")
    module = getattr(frameworks.load().keras.datasets, _SOURCES[name].keras)
    try:
        # Keras reports its download on stdout, where a --json result belongs.
        with contextlib.redirect_stdout(sys.stderr):
            splits: tuple[tuple[Any, Any], tuple[Any, Any]] = module.load_data()
    except Exception as error:  # Keras raises a bare Exception where a download fails
        missing = f"{data_dir} holds no {title} files" if data_dir is not None else "no --data-dir is given"
        raise DataError(f"{missing} and Keras cannot download {title}; {_where_to_put(name)}") from error
    return [np.asarray(array, np.uint8) for split in splits for array in split]


def _dataset(name: str, arrays: list[Pixels], *, origin: Path | None) -> Dataset:
    source = _SOURCES[name]
    train_images, train_labels, test_images, test_labels = arrays
    splits = (_split(train_images, train_labels, source, origin), _split(test_images, test_labels, source, origin))
    return Dataset(source.title, source.labels, *splits, sha256=_fingerprint(arrays))


def _split(images: Pixels, labels: Labels, source: _Source, origin: Path | None) -> Split:
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


def _fingerprint(arrays: list[Pixels]) -> str:
    digest = hashlib.sha256()
    for file, array in zip(_FILES, arrays, strict=True):
        digest.update(file.encode())
        digest.update(idx.encode(array))
    return digest.hexdigest()


def _where_to_put(name: str) -> str:
    return (
        f"put {', '.join(f'{file}.gz' for file in _FILES)} into DIR/{name} "
        f"and give --data-dir DIR (or set PIXELSERVE_DATA_DIR=DIR)"
    )
