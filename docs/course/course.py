"""What the pages of the course share: data, sizes and pictures.

A page runs whole (`make course`, minutes) or small (a test, seconds): with the variable PIXELSERVE_COURSE_SMALL set,
each `sized` is its small value, and pictures are drawn but not written.
"""

import io
import os
from pathlib import Path
from typing import TypeVar

import matplotlib.pyplot as plt
from sklearn.model_selection import train_test_split

from pixelserve_training import datasets
from pixelserve_training.datasets import Dataset, Split

SMALL = "PIXELSERVE_COURSE_SMALL"
PICTURES = Path(__file__).parent / "pictures"
_DPI = 72
_SMALL_DPI = 20

Value = TypeVar("Value")


def is_small() -> bool:
    """Returns whether the page runs in its small size."""
    return bool(os.environ.get(SMALL))


def sized(whole: Value, small: Value) -> Value:
    """Returns one of two values by the page's size."""
    return small if is_small() else whole


def load(name: str) -> Dataset:
    """Loads a data set from the official files in the folder of PIXELSERVE_DATA_DIR, or through Keras's downloader."""
    data_dir = os.environ.get("PIXELSERVE_DATA_DIR")
    return datasets.load(name, Path(data_dir) if data_dir else None)


def split(samples: Split, *, learn: int, hold_out: int) -> tuple[Split, Split]:
    """Returns samples to learn from and held-out samples, with equal shares of each class; the same in every run.

    Args:
        samples: a data set's training split; the course leaves the test split alone.
        learn: number of samples to learn from; in the small size at most half of the given ones.
        hold_out: number of held-out samples; the same limit.
    """
    counts = [sized(count, min(count, len(samples) // 2)) for count in (learn, hold_out)]
    places = train_test_split(
        range(len(samples)), train_size=counts[0], test_size=counts[1], random_state=1, stratify=samples.targets
    )
    return samples.take(places[0]), samples.take(places[1])


def save(name: str) -> None:
    """Writes the current figure as pictures/NAME.png, and closes it; in the small size it is only drawn."""
    to = io.BytesIO() if is_small() else PICTURES / f"{name}.png"
    # No version of Matplotlib in the file: an update alone does not change it.
    plt.savefig(to, dpi=sized(_DPI, _SMALL_DPI), bbox_inches="tight", metadata={"Software": None})
    plt.close()
