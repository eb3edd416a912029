"""Charts of figures: class counts, training curves, confusion matrix, reliability, and a fitted plane."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pixelserve.figures import Calibration, ReliabilityBin

from .content import Labels, Regression
from .style import BLUE, GREY, LIGHT_GREY, ORANGE, WIDTH_IN, figure, picture, shorten

CURVES = (("loss", "val_loss"), ("accuracy", "val_accuracy"))
"""Names in a history, by panel: of the training split and of the validation split."""

LEAST_BINNED = 30
"""Samples that a bin needs for an accuracy: of fewer, a half is uncertain by more than 18 points."""

# Above these numbers of classes, there is no room for figures, and then none for names.
_MOST_COUNTED = 20
_MOST_NAMED = 60
_BESIDE_DEGREES = 25


@picture
def class_counts(splits: Mapping[str, Labels], names: Sequence[str]) -> Figure:
    """Draws the number of samples per class, one panel per split.

    Args:
        splits: label indices, integer [N], by the split's name.
        names: the labels in index order.
    """
    positions = range(len(names))
    drawn = figure(min(2 + 0.22 * len(names), 16))
    panels = drawn.subplots(1, len(splits), sharey=True, squeeze=False)[0]
    for axes, (split, labels) in zip(panels, splits.items(), strict=True):
        counts = np.bincount(labels, minlength=len(names))
        bars = axes.barh(positions, counts, color=BLUE)
        if len(names) <= _MOST_NAMED:
            axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=8)
        axes.margins(x=0.2, y=0.02)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlabel("samples")
        axes.set_title(f"{split}: {len(labels):,}")
    _name_ticks(panels[0], names, on="y")
    panels[0].invert_yaxis()
    return drawn


@picture
def training_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Draws loss and accuracy over the epochs, for those CURVES that the history holds.

    Args:
        history: figures by name, one entry per epoch; accuracies are fractions of 1.
    """
    pairs = [[name for name in pair if len(history.get(name, ()))] for pair in CURVES]
    pairs = [pair for pair in pairs if pair]
    drawn = figure(3.4, WIDTH_IN if len(pairs) > 1 else WIDTH_IN * 0.7)
    for axes, pair in zip(drawn.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        for name in pair:
            values = np.asarray(history[name], np.float64) * (100 if "accuracy" in name else 1)
            validation = name.startswith("val_")
            axes.plot(
                *(range(1, len(values) + 1), values),
                color=ORANGE if validation else BLUE,
                # Distinguishable without colour.
                linestyle="--" if validation else "-",
                marker="s" if validation else "o",
                # With many epochs, markers would hide the line.
                markersize=4 if len(values) <= 30 else 0,
                label="validation" if validation else "training",
            )
        axes.set_title("Accuracy" if "accuracy" in pair[0] else "Loss")
        axes.set_ylabel("accuracy, %" if "accuracy" in pair[0] else "loss")
        axes.set_xlabel("epoch")
        epochs = max(len(history[name]) for name in pair)
        margin = min(0.5, 0.04 * epochs)
        axes.set_xlim(1 - margin, epochs + margin)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid()
        axes.legend()
    return drawn


@picture
def confusion_matrix(counts: npt.NDArray[np.int64], names: Sequence[str]) -> Figure:
    """Draws the confusion matrix: one row per true label, coloured by the share of the row.

    Not scikit-learn's ConfusionMatrixDisplay, which colours counts: a good classifier's errors would be invisible.

    Args:
        counts: int64 [classes, classes], true labels in rows.
        names: the labels in index order.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side_in = min(max(4.6, 0.62 * len(names)), max(WIDTH_IN, 0.22 * len(names)), 2 * WIDTH_IN)
    drawn = figure(side_in * 0.88, side_in * 1.04)
    axes = drawn.subplots()
    # Small shares are spread out; otherwise a good classifier's errors would be invisible.
    norm = PowerNorm(0.4, 0, 1)
    image = axes.imshow(shares, cmap="Blues", norm=norm)
    for row in np.flatnonzero(counts.sum(axis=1) == 0):
        axes.axhspan(row - 0.5, row + 0.5, color=LIGHT_GREY)
    if len(names) <= _MOST_COUNTED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if norm(shares[row, column]) > 0.6 else "black"
                axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=8, color=colour)
    _name_ticks(axes, names, on="x")
    _name_ticks(axes, names, on="y")
    axes.set_xlabel("prediction")
    axes.set_ylabel("label")
    axes.set_title(f"Confusion matrix: {np.trace(counts):,} of {counts.sum():,} correct")
    bar = drawn.colorbar(
        image, ax=axes, shrink=0.8, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1], format=PercentFormatter(1, 0, " %")
    )
    bar.set_label("share of the label's samples")
    return drawn


@picture
def reliability(calibration: Calibration) -> Figure:
    """Draws accuracy against confidence in equal-width bins of at least 30 samples, and the samples of every bin.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", figure 1. Not scikit-learn's CalibrationDisplay, which
    knows neither the number of samples nor more than two classes.

    Args:
        calibration: a classifier's, with its bins.
    """
    bins = calibration.reliability
    edges = np.arange(len(bins)) / len(bins) * 100
    width = 100 / len(bins)
    shown = [(edge, each) for edge, each in zip(edges, bins, strict=True) if is_shown(each)]
    accuracy = [100 * float(each.accuracy or 0) for _, each in shown]

    drawn = figure(6.2, 5.6)
    upper, lower = drawn.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.bar(
        [edge for edge, _ in shown], accuracy, width, align="edge", color=BLUE, edgecolor="white", label="accuracy"
    )
    upper.plot([0, 100], [0, 100], color=GREY, linestyle="--", label="accuracy = confidence")
    confidence = [100 * float(each.confidence or 0) for _, each in shown]
    upper.plot(confidence, accuracy, "D", color=ORANGE, markersize=4, label="mean confidence of the bin")
    upper.set_ylim(0, 103)
    upper.set_ylabel("accuracy, %")
    upper.legend(loc="upper left")
    upper.set_title(f"Expected calibration error {calibration.expected_calibration_error:.4f} ({len(bins)} bins)")
    counts = lower.bar(edges, [each.samples for each in bins], width, align="edge", color=GREY, edgecolor="white")
    lower.bar_label(counts, [f"{each.samples:,}" for each in bins], padding=2, fontsize=6.5)
    lower.margins(y=0.25)
    lower.set_xlim(0, 100)
    lower.set_xlabel("confidence (probability of the prediction), %")
    lower.set_ylabel("samples")
    lower.yaxis.set_major_formatter("{x:,.0f}")
    return drawn


def is_shown(part: ReliabilityBin) -> bool:
    """Returns whether a bin has the samples for an accuracy."""
    return part.samples >= LEAST_BINNED


@picture
def plane(regression: Regression) -> Figure:
    """Draws samples over two features with the fitted plane and their distances from it."""
    first, second = regression.features.T
    targets = regression.targets
    fitted = regression.features @ np.asarray(regression.coefficients) + regression.intercept
    drawn = figure(5.6, 6.4)
    # Points on the plane are visible from both sides.
    axes: Any = drawn.add_subplot(projection="3d", computed_zorder=False)
    grid = np.meshgrid(*(np.linspace(values.min(), values.max(), 12) for values in (first, second)))
    heights = regression.coefficients[0] * grid[0] + regression.coefficients[1] * grid[1] + regression.intercept
    axes.plot_surface(*grid, heights, color=BLUE, alpha=0.3, linewidth=0, zorder=1)
    for x, y, target, height in zip(first, second, targets, fitted, strict=True):
        axes.plot([x, x], [y, y], [height, target], color=GREY, linewidth=1, zorder=2)
    above = targets >= fitted
    for where, side, colour in ((above, "above the plane", ORANGE), (~above, "below the plane", "white")):
        points = (first[where], second[where], targets[where])
        axes.scatter(*points, color=colour, edgecolor=ORANGE, s=28, depthshade=False, zorder=3, label=side)
    names = (*regression.feature_names, regression.target_name)
    for set_label, name in zip((axes.set_xlabel, axes.set_ylabel, axes.set_zlabel), names, strict=True):
        set_label(shorten(name, 30), labelpad=8)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_major_locator(MaxNLocator(6))
    axes.view_init(elev=15, azim=_facing(regression))
    axes.set_box_aspect((1, 1, 0.9), zoom=0.9)
    axes.legend(loc="upper left")
    mean_squared_error = float(np.mean((targets - fitted) ** 2))
    axes.set_title(f"{len(targets)} samples and the fitted plane; mean squared error {mean_squared_error:,.4g}")
    return drawn


def _facing(regression: Regression) -> float:
    """Returns the azimuth, in degrees, from which the plane shows its face: downhill of it, and a little beside.

    Seen along its height lines a plane is a line.
    """
    # In the picture's units: both ranges are drawn at the same length.
    downhill = -np.asarray(regression.coefficients) * np.ptp(regression.features, axis=0)
    return float(np.degrees(np.arctan2(downhill[1], downhill[0]))) + _BESIDE_DEGREES


def _name_ticks(axes: Axes, names: Sequence[str], *, on: str) -> None:
    step = -(-len(names) // _MOST_NAMED)
    positions = range(0, len(names), step)
    texts = [shorten(name, 18) for name in names[::step]]
    size = 10 if len(names) <= _MOST_COUNTED else 7.5
    if on == "y":
        axes.set_yticks(positions, texts, fontsize=size)
    else:
        axes.set_xticks(positions, texts, fontsize=size, rotation=90 if max(map(len, texts)) > 3 else 0)
