"""The style of all pictures, and their rendering as PNG."""

import functools
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

from matplotlib import font_manager, style
from matplotlib.figure import Figure

# Okabe and Ito 2008, "Color Universal Design": distinguishable with all common kinds of colour blindness.
BLUE = "#0072B2"
ORANGE = "#D55E00"
GREY = "#8C8C8C"
LIGHT_GREY = "#E4E4E4"

WIDTH_IN = 7.5

_DPI = 144
_LATIN = "DejaVu Sans"
# Tried in this order for characters that it lacks; each of the first has all of Chinese, Japanese and Korean.
_FALLBACKS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK TC", "Noto Sans CJK KR", "WenQuanYi Zen Hei")
_FALLBACK_FILES = ("NotoSansCJK", "wqy-zenhei")
STYLE = {
    "font.family": [_LATIN],
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
        # The page names the characters that no font has, once.
        with style.context(["default", STYLE, {"font.family": list(families())}]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
            draw(*args, **kwargs).savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
        return buffer.getvalue()

    return encode


@functools.cache
def families() -> tuple[str, ...]:
    """Returns the fonts of all texts: Matplotlib's own, and the installed ones for other scripts."""
    fonts = font_manager.fontManager
    if not _installed():
        # Matplotlib lists a system's fonts once; these may have been installed since.
        for path in font_manager.findSystemFonts():
            if Path(path).name.startswith(_FALLBACK_FILES):
                fonts.addfont(path)
    return (_LATIN, *_installed())


def _installed() -> tuple[str, ...]:
    found = {entry.name for entry in font_manager.fontManager.ttflist}
    return tuple(name for name in _FALLBACKS if name in found)


def undrawable(text: str) -> str:
    """Returns the characters of a text that no font has, each once."""
    drawable: set[int] = set()
    for family in families():
        drawable |= set(font_manager.get_font(font_manager.findfont(family)).get_charmap())
    return "".join(dict.fromkeys(each for each in text if each.isprintable() and ord(each) not in drawable))


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
