"""The content of a report: plain values and arrays, checked when they are assembled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SamplesError
from ..recipe import Metric

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.integer[Any]]
Scores = npt.NDArray[np.floating[Any]]

_CHANNELS = (1, 3)
_PLANE_FEATURES = 2


@dataclass(frozen=True)
class Samples:
    """Labelled images, such as the training split.

    Raises:
        SamplesError: there are none, or the arrays do not match.
    """

    images: Pixels
    """Raw pixels, uint8 [N, H, W, C], C 1 or 3."""
    labels: Labels
    """Index of each image's label, integer [N]."""

    def __post_init__(self) -> None:
        """Checks the arrays."""
        _check_images(self.images)
        _check_count("images", self.images, "labels", self.labels)


@dataclass(frozen=True)
class Headline:
    """What the report opens with.

    Raises:
        SamplesError: an accuracy is not between 0 and 1, or there are no samples.
    """

    metric: Metric
    """What was measured."""
    figure: float
    """The figure: an accuracy, a fraction of 1, or an error."""
    samples: int
    """Number of samples it was measured on."""
    split: str
    """These samples in words, such as "held-out samples"."""
    date: str
    """The day of the run, such as 2026-11-29."""
    claimed: float | None = None
    """The recipe's claim for the same figure on the same samples; None: it has none."""
    next: Sequence[str] = ()
    """Commands to continue with."""

    def __post_init__(self) -> None:
        """Checks the figure."""
        if not self.samples or (self.metric == "accuracy" and not 0 <= self.figure <= 1):
            raise SamplesError(
                f"a report's headline: {self.metric} {self.figure} of {self.samples} samples; expected an accuracy "
                f"from 0 to 1 of at least 1 sample"
            )


@dataclass(frozen=True)
class Predictions:
    """A classifier's predictions on samples that it was measured on.

    Raises:
        SamplesError: there are none, or the arrays do not match.
    """

    scores: Scores
    """float [N, classes]; the highest is the prediction, or for a single score, whether it exceeds a half."""
    labels: Labels
    """Index of each sample's true label, integer [N]."""
    images: Pixels | None = None
    """Raw pixels, uint8 [N, H, W, C], C 1 or 3; None if the samples are not images."""
    split: str = field(kw_only=True)
    """These samples in words, such as "held-out samples"."""

    def __post_init__(self) -> None:
        """Checks the arrays."""
        if self.scores.ndim != 2:
            raise SamplesError(f"a report's scores: expected [N, classes], got {list(self.scores.shape)}; reshape them")
        _check_count("scores", self.scores, "labels", self.labels)
        if self.images is not None:
            _check_images(self.images)
            _check_count("scores", self.scores, "images", self.images)


@dataclass(frozen=True)
class Layer:
    """One layer of a network."""

    name: str
    """Its name in the model."""
    kind: str
    """Its class, such as Conv2D."""
    output_shape: tuple[int | None, ...]
    """Its output shape, rows first; None is a free dimension."""
    parameters: int
    """Number of its weights, whether trained or not."""


@dataclass(frozen=True)
class Regression:
    """A plane fitted to samples of two features: target = coefficients · features + intercept.

    Raises:
        SamplesError: there are none, or the arrays do not match.
    """

    features: npt.NDArray[np.floating[Any]]
    """float [N, 2]."""
    targets: npt.NDArray[np.floating[Any]]
    """float [N], the measured values."""
    feature_names: tuple[str, str]
    """Names of the features, with units."""
    target_name: str
    """Name of the target, with its unit."""
    coefficients: tuple[float, float]
    """The plane's slope along each feature."""
    intercept: float
    """The plane's height where both features are 0."""

    def __post_init__(self) -> None:
        """Checks the arrays."""
        if self.features.ndim != 2 or self.features.shape[1] != _PLANE_FEATURES:
            raise SamplesError(
                f"a report's features: expected [N, 2], got {list(self.features.shape)}; give two, a plane's"
            )
        _check_count("features", self.features, "targets", self.targets)


@dataclass(frozen=True)
class ReportContent:
    """Everything in a report; None and empty values are omitted.

    Raises:
        SamplesError: a label's index or the number of scores does not fit the labels.
    """

    title: str
    """The page's heading, such as the recipe's name."""
    headline: Headline | None = None
    """The run's result."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The run's settings, plain values by name."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """The figures, plain values by name; nested mappings are shown flat."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Version by library."""
    labels: Sequence[str] = ()
    """The classes' names in index order; empty if the model is not a classifier."""
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """loss, val_loss, accuracy and val_accuracy (fractions of 1), one entry per epoch; others are omitted."""
    history_note: str = ""
    """How the network of the validation curve differs from the saved one; empty if it does not."""
    samples: Samples | None = None
    """Labelled training images."""
    predictions: Predictions | None = None
    """The classifier's scores on the samples that it was measured on."""
    layers: Sequence[Layer] = ()
    """The network's layers in order."""
    regression: Regression | None = None
    """A fitted plane."""

    def __post_init__(self) -> None:
        """Checks labels and scores against the names."""
        for part in (self.samples, self.predictions):
            if part is not None and not 0 <= part.labels.min() <= part.labels.max() < self._classes:
                raise SamplesError(
                    f"a report's labels: expected indices 0 to {self._classes - 1}, got {part.labels.min()} to "
                    f"{part.labels.max()}; give a name for each class"
                )
        if self.predictions is not None and self.predictions.scores.shape[1] != len(self.labels):
            raise SamplesError(
                f"a report's scores: expected {len(self.labels)} per sample, one for each label, "
                f"got {self.predictions.scores.shape[1]}; give a name for each class"
            )

    @property
    def _classes(self) -> int:
        # A single score means yes or no.
        return 2 if len(self.labels) == 1 else len(self.labels)


def _check_images(images: Pixels) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in _CHANNELS:
        raise SamplesError(
            f"a report's images: expected uint8 [N, H, W, 1 or 3], got {images.dtype} {list(images.shape)}; "
            f"give the raw pixels"
        )


def _check_count(name: str, array: npt.NDArray[Any], other_name: str, other: npt.NDArray[Any]) -> None:
    if len(array) != len(other) or not len(array):
        raise SamplesError(
            f"a report's {name}: {len(array)} with {len(other)} {other_name}; expected equally many, at least 1"
        )
