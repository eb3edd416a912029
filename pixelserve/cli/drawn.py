"""Draws a picture and its classes for a terminal.

Two pixels fit into one character, the upper and the lower half block, because characters are twice as high as wide.
Without colours, a character is as dark or light as its two pixels.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import terminal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.console import Console, RenderableType
    from rich.text import Text

    from pixelserve.client import Class

# Characters a line; a picture's height takes half as many lines as its width takes columns.
_MOST_COLUMNS = 32
_BAR_COLUMNS = 24
_UPPER_HALF = "▀"
_RAMP = " ░▒▓█"
_ASCII_RAMP = " .:-=+*#%@"
_WHITE = 255


def picture(levels: "npt.NDArray[np.uint8]", console: "Console") -> "Text":
    """Returns a picture as text, at most 32 columns wide and 16 lines high.

    Args:
        levels: uint8 [height, width, 1 or 3].
        console: the console to draw on; it decides between colours, shades and ASCII.
    """
    from rich.text import Text

    lines = _pairs(shrunk(levels, _MOST_COLUMNS))
    if console.color_system is None:
        ramp = _ASCII_RAMP if console.options.ascii_only else _RAMP
        return Text("\n".join("".join(_shade(cell, ramp) for cell in line) for line in lines), no_wrap=True)
    drawn = Text(no_wrap=True)
    for number, line in enumerate(lines):
        drawn.append("\n" if number else "")
        for upper, lower in line:
            drawn.append(_UPPER_HALF, f"rgb({_rgb(upper)}) on rgb({_rgb(lower)})")
    return drawn


def shrunk(levels: "npt.NDArray[np.uint8]", most: int) -> "npt.NDArray[np.uint8]":
    """Returns a picture whose longer side has at most `most` pixels, each the mean of those it stands for.

    Args:
        levels: uint8 [height, width, channels].
        most: pixels.

    Returns:
        uint8 [height, width, channels], with the same aspect ratio; smaller pictures stay as they are.
    """
    import numpy as np

    factor = max(*levels.shape[:2], most) / most
    means = levels.astype(np.float64)
    for axis in (0, 1):
        cells = max(1, round(levels.shape[axis] / factor))
        starts = np.arange(cells) * levels.shape[axis] // cells
        sizes = np.diff([*starts, levels.shape[axis]])
        means = np.add.reduceat(means, starts, axis=axis) / np.expand_dims(sizes, (1 - axis, 2))
    return means.round().astype(np.uint8)


def bars(classes: Sequence["Class"], console: "Console") -> "RenderableType":
    """Returns a table of classes, best first, each with a bar and its number.

    A probability's bar is full at 1, a score's at the best score. A score that is not above 0, or not finite, has no
    bar.
    """
    from rich.table import Table
    from rich.text import Text

    finite = [one.score for one in classes if math.isfinite(one.score)]
    full = max([0.0, *finite]) if any(one.probability is None for one in classes) else 1.0
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(overflow="fold", max_width=24)
    table.add_column(no_wrap=True, width=_BAR_COLUMNS)
    table.add_column(no_wrap=True, justify="right")
    for one in classes:
        number = f"{one.score:.4g}" if one.probability is None else f"{one.probability:.2%}"
        share = one.score / full if full and math.isfinite(one.score) else 0.0
        table.add_row(Text(terminal.printable(one.label)), _bar(share, console), number)
    return table


def _bar(share: float, console: "Console") -> "RenderableType":
    from rich.bar import Bar

    if console.options.ascii_only:
        return "#" * round(min(max(share, 0.0), 1.0) * _BAR_COLUMNS)
    return Bar(1.0, 0.0, share, width=_BAR_COLUMNS)


def _pairs(levels: "npt.NDArray[np.uint8]") -> "npt.NDArray[np.uint8]":
    """Returns uint8 [lines, columns, 2, channels]: each character's upper and lower pixel."""
    import numpy as np

    height, width, channels = levels.shape
    # The lowest line of an odd height has its pixels twice.
    even = np.concatenate([levels, levels[-1:]]) if height % 2 else levels
    return even.reshape(-1, 2, width, channels).swapaxes(1, 2)


def _shade(cell: "npt.NDArray[np.uint8]", ramp: str) -> str:
    return ramp[round(float(cell.mean()) / _WHITE * (len(ramp) - 1))]


def _rgb(pixel: "npt.NDArray[np.uint8]") -> str:
    return ",".join(str(level) for level in (pixel.repeat(3) if len(pixel) == 1 else pixel))
