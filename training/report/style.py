"""How all pictures look, and how a figure becomes a PNG file's bytes."""

import functools
import io
import warnings
from collections.abc import Callable
from typing import ParamSpec

from matplotlib import style
from matplotlib.figure import Figure

# Okabe and Ito 2008, "Color Universal Design": told apart with every common kind of colour blindness.
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
    # A label is shown as it is; "$" would start a formula.
    "text.parse_math": False,
}
"""Matplotlib's settings for all pictures."""

Arguments = ParamSpec("Arguments")


def picture(draw: Callable[Arguments, Figure]) -> Callable[Arguments, bytes]:
    """Makes a function that returns a figure return the bytes of its PNG file, in the style of all pictures.

    A user's own Matplotlib settings have no say, and the file holds no date and no version.
    """

    @functools.wraps(draw)
    def encode(*args: Arguments.args, **kwargs: Arguments.kwargs) -> bytes:
        buffer = io.BytesIO()
        # Warned of are characters that the font lacks: they are drawn as boxes, and the page shows them.
        with style.context(["default", STYLE]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
            draw(*args, **kwargs).savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
        return buffer.getvalue()

    return encode


def figure(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """Returns an empty figure that keeps its texts apart.

    It is no figure of pyplot's: no display is looked for, and no state is left behind.
    """
    return Figure(figsize=(width_in, height_in), layout="constrained")


def shorten(text: str, characters: int) -> str:
    """Returns the text in one line of at most `characters` characters; both ends are kept."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    if len(line) <= characters:
        return line
    head = (characters - 1) * 2 // 3
    return f"{line[:head]}…{line[len(line) - (characters - 1 - head) :]}"


def percent(fraction: float) -> str:
    """Returns a probability, a fraction of 1, in per cent; only what is 0 or 1 is shown as 0 or 100."""
    if 0 < fraction < 0.0005:
        return "<0.1 %"
    if 0.9995 <= fraction < 1:
        return ">99.9 %"
    return f"{fraction * 100:.1f} %"
