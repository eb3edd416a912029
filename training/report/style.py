"""The style of all pictures, and their rendering as PNG."""

import functools
import io
import warnings
from collections.abc import Callable
from typing import ParamSpec

from matplotlib import style
from matplotlib.figure import Figure

# Okabe and Ito 2008, "Color Universal Design": distinguishable with all common kinds of colour blindness.
BLUE = "#0072B2"
ORANGE = "#D55E00"
GREY = "#8C8C8C"
LIGHT_GREY = "#E4E4E4"

WIDTH_IN = 7.5

_DPI = 144
STYLE = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": LIGHT_GREY,
    "legend.frameon": False,
    # Labels are shown literally; "$" would start a formula.
    "text.parse_math": False,
}
"""Matplotlib's settings for all pictures."""

Arguments = ParamSpec("Arguments")


def picture(draw: Callable[Arguments, Figure]) -> Callable[Arguments, bytes]:
    """Decorates a function that returns a figure to return its PNG bytes instead, in the common style.

    A user's Matplotlib settings have no effect, and the file contains no date or version.
    """

    @functools.wraps(draw)
    def encode(*args: Arguments.args, **kwargs: Arguments.kwargs) -> bytes:
        buffer = io.BytesIO()
        # Matplotlib warns of characters that the font lacks: they are drawn as boxes, but the page shows them.
        with style.context(["default", STYLE]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
            draw(*args, **kwargs).savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
        return buffer.getvalue()

    return encode


def figure(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """Returns an empty figure with a layout that separates its texts.

    It does not use pyplot, so it needs no display and leaves no state.
    """
    return Figure(figsize=(width_in, height_in), layout="constrained")


def shorten(text: str, characters: int) -> str:
    """Returns the text in one line of at most `characters` characters, keeping both ends."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    if len(line) <= characters:
        return line
    head = (characters - 1) * 2 // 3
    return f"{line[:head]}…{line[len(line) - (characters - 1 - head) :]}"


def percent(fraction: float) -> str:
    """Returns a probability, a fraction of 1, in per cent; only exact 0 and 1 become 0 and 100."""
    if 0 < fraction < 0.0005:
        return "<0.1 %"
    if 0.9995 <= fraction < 1:
        return ">99.9 %"
    return f"{fraction * 100:.1f} %"
