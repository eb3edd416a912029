"""Data sets: samples and targets, in their official splits."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Task = Literal["image", "tabular", "regression"]
SplitName = Literal["test", "validation", "training"]
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
    sealed: bool = False
    """Whether only `pixelserve evaluate --split test` reads the test split, because models of many runs are compared on
    it. False for a user's own pictures, whose test split belongs to them, and where it equals `train`."""
    features: tuple[str, ...] = ()
    """The names of a table's columns, with units; empty for images."""
    target: str = ""
    """The name of the value that a regression predicts, with its unit; empty for classes."""

    @property
    def has_test(self) -> bool:
        """Whether there is a test split: small tables have too few samples, and a user's own data may have none."""
        return self.test is not self.train

    def quoted(self, held_out: float) -> tuple[SplitName, Split]:
        """Returns the split for the figures of a run, with its name: test unless it is sealed, else the held-out part.

        Args:
            held_out: the share of the training split that the run held out, a fraction of 1; with 0, the figures of a
                data set whose test split is sealed, or that has none, are those of the training samples.
        """
        if self.has_test and not self.sealed:
            return "test", self.test
        unseen = hold_out(self.train, held_out)[1]
        return ("validation", unseen) if len(unseen) else ("training", self.train)


def hold_out(split: Split, share: float) -> tuple[Split, Split]:
    """Returns the samples to learn from and the held-out ones; the same in every run.

    Every class has its share of the held-out samples, and a smaller share is a prefix of a larger one, so versions that
    held out different shares can be compared.

    Args:
        split: the training split.
        share: the held-out share, a fraction of 1, or a number of samples, from 1; ignored if the data came with a
            validation split, which is then held out.
    """
    if split.validation is not None:
        return split.take(np.flatnonzero(~split.validation)), split.take(np.flatnonzero(split.validation))
    order = split.hold_out_order
    if order is None:
        order = np.random.default_rng(_HOLD_OUT_SEED).permutation(len(split))
    if split.targets.dtype.kind in "iu":
        order = _stratified(order, split.targets)
    held = round(len(split) * share if share < 1 else share)
    if not held:
        return split, split.take(order[:0])
    return split.take(order[held:]), split.take(order[:held])


def _stratified(order: Array, labels: Array) -> Array:
    """Returns an order whose every prefix has each class in proportion, to within a sample, by merging the classes.

    scikit-learn's StratifiedShuffleSplit draws each share anew, so a smaller one would not be a prefix.
    """
    labels = labels[order]
    places = np.empty(len(order))
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        places[of_class] = (np.arange(len(of_class)) + 0.5) / len(of_class)
    return order[np.argsort(places, kind="stable")]
