"""The picture of `pixelserve show`: an image of unknown label beside the bars of its classes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from .content import Pixels
from .style import BLUE, GREY, figure, percent, picture, shorten


@picture
def prediction(image: Pixels | None, labels: Sequence[str], scores: Sequence[float], *, as_probability: bool) -> Figure:
    """Draws an image beside the bars of its best classes.

    Args:
        image: uint8 [H, W, C], C 1 or 3, as the model saw it; None: only the bars are drawn.
        labels: the best classes' names, best first.
        scores: their probabilities, 0 to 1, or their scores.
        as_probability: which of the two; scores that are not finite have no bar.
    """
    drawn = figure(max(3.0, 0.3 * len(labels) + 0.8))
    axes = drawn.subplots() if image is None else drawn.add_subplot(1, 2, 2)
    if image is not None:
        picture_axes = drawn.add_subplot(1, 2, 1)
        picture_axes.imshow(np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image)
        picture_axes.set_axis_off()
    values = np.nan_to_num(np.asarray(scores, np.float64) * (100 if as_probability else 1), posinf=0, neginf=0)
    bars = axes.barh(range(len(labels)), values, color=[BLUE] + [GREY] * (len(labels) - 1))
    texts = [percent(score) if as_probability else f"{score:.4g}" for score in scores]
    axes.bar_label(bars, texts, padding=4, fontsize=8)
    axes.set_yticks(range(len(labels)), [shorten(label, 24) for label in labels])
    axes.invert_yaxis()
    if as_probability:
        # Leaves room for the figure beside a full bar.
        axes.set_xlim(0, 118)
        axes.set_xticks(range(0, 101, 25))
    else:
        axes.margins(x=0.2)
    axes.set_xlabel("probability, %" if as_probability else "score")
    axes.set_title(f"prediction: {shorten(labels[0], 24)}", fontsize=10, color=BLUE)
    return drawn
