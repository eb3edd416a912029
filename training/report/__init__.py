"""A run's report: pictures, and one HTML page with all of them.

report.html   the self-contained page: it can be mailed, and loads and runs nothing
pictures/     the same pictures as PNG files
"""

from pathlib import Path

from ..errors import MissingLibraryError
from ..staging import check_free, staged
from .content import Layer, Predictions, Regression, ReportContent, Samples

__all__ = ["PAGE", "PICTURES", "Layer", "Predictions", "Regression", "ReportContent", "Samples", "write"]

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
    try:
        # Drawing libraries are loaded only for reports.
        from . import page, sections
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            f"a report needs the library {error.name}; in PixelServe's clone run: pip install -e '.[training]'"
        ) from error
    drawn = sections.draw(content)
    with staged(folder / PICTURES) as staging:
        for section in drawn:
            if section.picture is not None:
                (staging / f"{section.name}.png").write_bytes(section.picture)
        # All bytes are on disk before the first name appears.
        (staging / PAGE).write_text(page.render(content, drawn), encoding="utf-8")
        (staging / PAGE).rename(folder / PAGE)
    return folder / PAGE
