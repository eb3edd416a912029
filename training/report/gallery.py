"""Galleries of images: samples, errors, and one image with its probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from ..measuring.evaluate import surest_errors
from .content import Labels, Pixels, Scores
from .style import BLUE, GREY, ORANGE, WIDTH_IN, figure, percent, picture, shorten

_ERRORS_A_ROW = 4
_SAMPLES_A_ROW = 10
_CLASSES_A_ROW = 6
# More classes than this get one sample each.
_MOST_ROWS = 12
_MOST_CLASSES = 60
_BARS = 10

_WHITE = 255
_TITLE_IN = 0.5
_LABELS_IN = 1.4
_LINE_IN = 0.16
_CAPTION_POINTS = 8


@picture
def sample_grid(images: Pixels, labels: Labels, names: Sequence[str]) -> Figure:
    """Draws the first samples of each class, one row per class; with more than 12 classes, one sample each.

    Args:
        images: uint8 [N, H, W, C], C 1 or 3.
        labels: integer [N], the index of each image's label.
        names: the labels in index order.
    """
    places = [np.flatnonzero(labels == index)[:_SAMPLES_A_ROW] for index in range(len(names))]
    if len(names) > _MOST_ROWS:
        shown = [index for index, found in enumerate(places) if len(found)][:_MOST_CLASSES]
        firsts = [images[places[index][0]] for index in shown]
        captions = [shorten(names[index], 18) for index in shown]
        return _captioned(firsts, captions, _CLASSES_A_ROW, f"One sample from each of {len(shown)} classes")
    grid = _Grid.of(images[0], _SAMPLES_A_ROW)
    canvas = grid.canvas([list(images[found]) for found in places])
    drawn = figure((WIDTH_IN - _LABELS_IN) * canvas.shape[0] / canvas.shape[1] + _TITLE_IN)
    axes = drawn.subplots()
    axes.imshow(canvas)
    axes.set_title(f"Samples of {len(names)} classes")
    axes.set_xticks([])
    middles = [grid.top(row) + grid.height / 2 for row in range(len(names))]
    axes.set_yticks(middles, [shorten(name, 18) for name in names])
    axes.tick_params(left=False)
    axes.spines[:].set_visible(False)
    return drawn


@picture
def errors(images: Pixels, labels: Labels, scores: Scores, names: Sequence[str], *, as_probability: bool) -> Figure:
    """Draws up to 16 misclassified images, most confident first, each with its label and prediction.

    Args:
        images: uint8 [N, H, W, C], C 1 or 3; at least one is misclassified.
        labels: integer [N], the index of each image's true label.
        scores: float [N, classes], the highest is the prediction.
        names: the labels in index order.
        as_probability: whether the scores are probabilities, to be written beside the prediction.
    """
    predicted = scores.argmax(axis=1)
    shown = surest_errors(scores, labels)
    count = int((predicted != labels).sum())
    captions = [
        f"{shorten(names[labels[place]], 24)}\n→ {shorten(names[predicted[place]], 14)}"
        + (f" ({percent(scores[place].max())})" if as_probability else "")
        for place in shown
    ]
    which = "All" if len(shown) == count else f"The {len(shown)} surest of"
    title = f"{which} {count:,} errors in {len(labels):,} samples: label → prediction"
    return _captioned([images[place] for place in shown], captions, _ERRORS_A_ROW, title)


@picture
def probability_bars(
    image: Pixels, probabilities: npt.NDArray[np.floating[Any]], names: Sequence[str], label: int
) -> Figure:
    """Draws an image beside the probabilities of its classes, at most the 10 most probable.

    Args:
        image: uint8 [H, W, C], C 1 or 3.
        probabilities: float [classes].
        names: the labels in index order.
        label: index of the true label.
    """
    best = np.argsort(-probabilities, kind="stable")
    # Few classes stay in their usual order.
    shown = np.sort(best) if len(best) <= _BARS else best[:_BARS]
    drawn = figure(max(3.0, 0.3 * len(shown) + 0.8))
    picture_axes, axes = drawn.subplots(1, 2, width_ratios=(1, 1.6))
    picture_axes.imshow(_coloured(image))
    picture_axes.set_axis_off()
    picture_axes.set_title(f"label: {shorten(names[label], 18)}", fontsize=10, color=BLUE)
    colours = [BLUE if index == label else ORANGE if index == best[0] else GREY for index in shown]
    bars = axes.barh(range(len(shown)), probabilities[shown] * 100, color=colours)
    axes.bar_label(bars, [percent(probabilities[index]) for index in shown], padding=4, fontsize=_CAPTION_POINTS)
    axes.set_yticks(range(len(shown)), [shorten(names[index], 18) for index in shown])
    axes.invert_yaxis()
    # Leaves room for the figure beside a full bar.
    axes.set_xlim(0, 118)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("probability, %")
    colour = BLUE if best[0] == label else ORANGE
    axes.set_title(f"prediction: {shorten(names[best[0]], 18)}", fontsize=10, color=colour)
    return drawn


def _captioned(images: Sequence[Pixels], captions: Sequence[str], columns: int, title: str) -> Figure:
    """Draws images in rows, each below its caption; all captions have the same number of lines."""
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    headroom_in = (captions[0].count("\n") + 1) * _LINE_IN + 0.05
    grid = _Grid.of(images[0], columns, headroom_in * columns / WIDTH_IN)
    canvas = grid.canvas(rows)
    drawn = figure(WIDTH_IN * canvas.shape[0] / canvas.shape[1] + _TITLE_IN)
    axes = drawn.subplots()
    axes.imshow(canvas)
    axes.set_title(title)
    axes.set_axis_off()
    for place, caption in enumerate(captions):
        row, column = divmod(place, columns)
        middle, top = grid.left(column) + grid.width / 2, grid.top(row) - 0.02 * grid.width
        axes.text(middle, top, caption, ha="center", va="bottom", fontsize=_CAPTION_POINTS)
    return drawn


@dataclass(frozen=True)
class _Grid:
    """Positions of equally sized images on a white canvas, in pixels."""

    height: int
    width: int
    gap: int
    headroom: int
    columns: int

    @classmethod
    def of(cls, image: Pixels, columns: int, headroom: float = 0) -> "_Grid":
        height, width, _ = image.shape
        gap = max(1, width // 14)
        return cls(height, width, gap, round(headroom * (width + gap)), columns)

    def top(self, row: int) -> int:
        return row * (self.headroom + self.height + self.gap) + self.headroom

    def left(self, column: int) -> int:
        return column * (self.width + self.gap)

    def canvas(self, rows: Sequence[Sequence[Pixels]]) -> Pixels:
        shape = (self.top(len(rows) - 1) + self.height, self.left(self.columns - 1) + self.width, 3)
        canvas = np.full(shape, _WHITE, np.uint8)
        for row, images in enumerate(rows):
            for column, image in enumerate(images):
                top, left = self.top(row), self.left(column)
                # A grey image's one channel fills all three.
                canvas[top : top + self.height, left : left + self.width] = image
        return canvas


def _coloured(image: Pixels) -> Pixels:
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
