"""A run's report: pictures, and one HTML page with all of them.

report.html   the self-contained page: it can be mailed, and loads and runs nothing
pictures/     the same pictures as PNG files
"""

import contextlib
from pathlib import Path
from types import ModuleType

from ..errors import MissingLibraryError, WriteError
from ..progress import say
from ..staging import check_free, reason, staged
from .content import Headline, Layer, Predictions, Regression, ReportContent, Samples

__all__ = [
    "PAGE",
    "PICTURES",
    "Headline",
    "Layer",
    "Predictions",
    "Regression",
    "ReportContent",
    "Samples",
    "write",
    "write_live",
]

PAGE = "report.html"
PICTURES = "pictures"


def write(folder: Path, content: ReportContent) -> Path:
    """Draws all pictures that the content has data for, and writes the report to `folder`; returns the page's path.

    It is written completely or not at all. Equal content gives equal bytes with equal versions of the libraries.

    Raises:
        TargetExistsError: a report exists already.
        WriteError: it cannot be written.
        MissingLibraryError: Matplotlib or Jinja is not installed.
    """
    for target in (folder / PAGE, folder / PICTURES):
        check_free(target)
    page, sections = _drawing()
    drawn, note = sections.draw(content), sections.undrawable(content)
    if note:
        say(note)
    with staged(folder / PICTURES) as staging:
        for section in drawn:
            if section.picture is not None:
                (staging / f"{section.name}.png").write_bytes(section.picture)
        # All bytes are on disk before the first name appears.
        (staging / PAGE).write_text(page.render(content, drawn, note=note), encoding="utf-8")
        (staging / PAGE).rename(folder / PAGE)
    return folder / PAGE


def write_live(path: Path, content: ReportContent, *, status: str, refresh: str = "") -> None:
    """Writes the page of a run that goes on, without files of pictures; replaces an earlier one at once.

    Args:
        path: the page's path.
        content: what is known so far.
        status: a line above the pictures.
        refresh: the page's refresh header, such as "5" to load it again after five seconds, or empty.

    Raises:
        WriteError: it cannot be written.
        MissingLibraryError: Matplotlib or Jinja is not installed.
    """
    page, sections = _drawing()
    text = page.render(content, sections.draw(content), status=status, refresh=refresh)
    fresh = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise WriteError(f"{path} cannot be written: {reason(error)}; make room, or train without --watch") from error


def _drawing() -> tuple[ModuleType, ModuleType]:
    """Returns the modules that draw, whose libraries are loaded only for reports."""
    try:
        from . import page, sections
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            f"a report needs the library {error.name}; in PixelServe's clone run: pip install -e '.[training]'"
        ) from error
    return page, sections
