"""Data sets: samples and targets, in their official splits."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Task = Literal["image", "tabular", "regression"]
Array = npt.NDArray[Any]

# Not the run's seed: samples held out for choices must not be learned in the next run.
_HOLD_OUT_SEED = 1


@dataclass(frozen=True)
class Split:
    """Samples with their targets."""

    inputs: Array
    """Images, raw pixels, uint8 [N, H, W, C]; or rows of a table, float32 [N, features]."""
    targets: Array
    """The index of each sample's label, unsigned integers [N]; in a regression the value, float32 [N]."""
    hold_out_order: Array | None = None
    """The order in which samples are held out, integers [N]; None: a fixed shuffle."""
    validation: Array | None = None
    """Whether a sample belongs to the validation split that the data came with, bool [N]; None: it came without one."""

    def __len__(self) -> int:
        """Returns the number of samples."""
        return len(self.targets)

    def take(self, indices: npt.NDArray[np.integer[Any]]) -> "Split":
        """Returns the samples at `indices`, in that order."""
        return Split(self.inputs[indices], self.targets[indices])


@dataclass(frozen=True)
class Source:
    """Where a data set comes from; each module of this folder lists its own in `SOURCES`, by name."""

    load: "Callable[[Path | None], Dataset]"
    """Returns it, from its official files in a folder; None: through Keras's downloader."""
    image_shape: tuple[int, int, int] | None = None
    """Height, width and channels of its images; None: it is a table."""


@dataclass(frozen=True)
class Dataset:
    """A data set in its official split."""

    name: str
    """Its usual name, such as MNIST."""
    task: Task
    """Its kind: classes of images, classes of a table's rows, or values."""
    labels: tuple[str, ...]
    """The classes' names in index order; empty in a regression."""
    train: Split
    """The training split."""
    test: Split
    """The test split; equal to `train` if there is too little data for two."""
    sha256: str
    """Hash over the names of its official files, each followed by its file's uncompressed bytes, in hex; of a table,
    over its name and the bytes of its arrays; of a user's own pictures over their names, each followed by its file's
    hash."""
    note: str = ""
    """Why figures on it differ from published ones; empty for the official files."""
    features: tuple[str, ...] = ()
    """The names of a table's columns, with units; empty for images."""
    target: str = ""
    """The name of the value that a regression predicts, with its unit; empty for classes."""

    @property
    def quoted(self) -> tuple[Literal["test", "training"], Split]:
        """The split for quoted figures, with its name: test if there is a separate one."""
        return ("training", self.train) if self.test is self.train else ("test", self.test)


def hold_out(split: Split, share: float) -> tuple[Split, Split]:
    """Returns the samples to learn from and the held-out ones; the same in every run.

    Args:
        split: the training split.
        share: the held-out share, a fraction of 1; ignored if the data came with a validation split, which is then
            held out.
    """
    if split.validation is not None:
        return split.take(np.flatnonzero(~split.validation)), split.take(np.flatnonzero(split.validation))
    order = split.hold_out_order
    if order is None:
        order = np.random.default_rng(_HOLD_OUT_SEED).permutation(len(split))
    held = round(len(split) * share)
    if not held:
        return split, split.take(order[:0])
    return split.take(order[held:]), split.take(order[:held])
