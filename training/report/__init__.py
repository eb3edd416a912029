"""What a run leaves for people to look at: pictures, and one HTML page that holds them all.

report.html   the page, complete in itself: it can be mailed, and it loads and runs nothing
pictures/     the same pictures as PNG files
"""

from pathlib import Path

from ..errors import MissingLibraryError
from ..staging import check_free, staged
from .content import Layer, Predictions, Regression, ReportContent, Samples

__all__ = ["Layer", "Predictions", "Regression", "ReportContent", "Samples", "write"]

PAGE = "report.html"
PICTURES = "pictures"


def write(folder: Path, content: ReportContent) -> Path:
    """Draws everything that the content has data for, and writes it to `folder`; returns the page's path.

    It is written whole or not at all. The same content gives the same bytes with the same versions of the libraries.

    Raises:
        TargetExistsError: a report is there already.
        WriteError: the disk does not take it.
        MissingLibraryError: Matplotlib or Jinja is not installed.
    """
    for target in (folder / PAGE, folder / PICTURES):
        check_free(target)
    try:
        # Drawing libraries are loaded for a report only.
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
        # All bytes are on the disk before the first name appears.
        (staging / PAGE).write_text(page.render(content, drawn), encoding="utf-8")
        (staging / PAGE).rename(folder / PAGE)
    return folder / PAGE
