"""The data sets of the recipes: public image sets, and small tables that need no download."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..errors import UsageError
from . import cifar10, mnist, tables
from .dataset import Array, Dataset, Split, Task, hold_out
from .folds import stratified_folds

__all__ = ["IMAGE_SHAPES", "Array", "Dataset", "Split", "Task", "hold_out", "load", "stratified_folds"]

IMAGE_SHAPES = {"mnist": (28, 28, 1), "fashion-mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
"""Height, width and channels of image data sets, by name."""

_LOADERS: dict[str, Callable[[Path | None], Dataset]] = {
    "mnist": partial(mnist.load, "mnist"),
    "fashion-mnist": partial(mnist.load, "fashion-mnist"),
    "cifar10": cifar10.load,
    "xor": lambda _: tables.load_xor(),
    "and": lambda _: tables.load_and(),
    "blood-fat": lambda _: tables.load_blood_fat(),
    "iris": lambda _: tables.load_iris(),
}


def load(name: str, data_dir: Path | None) -> Dataset:
    """Loads a data set from its official files in `data_dir`, else through Keras's downloader and its cache.

    Tables come with the project or a library; `data_dir` does not matter for them.

    Raises:
        UsageError: `data_dir` is not a folder.
        DataError: a file is missing or damaged, or there are none and Keras cannot download them.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise UsageError(
            f"--data-dir {data_dir}: no such folder; give the one that holds the data sets' official files, "
            f"or leave it out to have Keras download them"
        )
    return _LOADERS[name](data_dir)
