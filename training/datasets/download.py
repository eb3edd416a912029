"""Downloads data sets with Keras."""

import contextlib
import sys
from pathlib import Path

import numpy as np

from .. import frameworks
from ..errors import DataError
from ..progress import say
from .dataset import Array


def from_keras(module: str, title: str, data_dir: Path | None, *, remedy: str) -> list[Array]:
    """Returns training images and labels, then test images and labels, through Keras's downloader and its cache.

    Args:
        module: the data set's module in keras.datasets.
        title: its usual name.
        data_dir: the folder where its files were not found, or None.
        remedy: what to do if it cannot be downloaded.

    Raises:
        DataError: it cannot be downloaded.
    """
    if data_dir is not None:
        say(f"no {title} files in {data_dir}; asking Keras's downloader")
    source = getattr(frameworks.load().keras.datasets, module)
    try:
        # Keras reports its download on stdout, which is reserved for --json results.
        with contextlib.redirect_stdout(sys.stderr):
            splits = source.load_data()
    except Exception as error:  # Keras raises a bare Exception if a download fails
        missing = f"{data_dir} holds no {title} files" if data_dir is not None else "no --data-dir is given"
        raise DataError(f"{missing} and Keras cannot download {title}; {remedy}") from error
    return [np.asarray(array, np.uint8) for split in splits for array in split]
