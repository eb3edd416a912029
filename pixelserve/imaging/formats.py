"""The list of supported picture formats. Needs no library."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A format of picture files."""

    name: str
    """The name in messages."""
    pillow: str
    """Pillow's name of the format."""
    suffixes: tuple[str, ...]
    """File name extensions, in lower case."""
    start: bytes
    """A regular expression for the first bytes of its files."""

    def begins(self, head: bytes) -> bool:
        """Returns whether a file that starts with these bytes looks like this format."""
        return re.match(self.start, head, re.DOTALL) is not None


FORMATS = (
    Format("PNG", "PNG", (".png",), rb"\x89PNG"),
    Format("JPEG", "JPEG", (".jpg", ".jpeg"), rb"\xff\xd8\xff"),
    Format("BMP", "BMP", (".bmp",), rb"BM"),
    Format("WebP", "WEBP", (".webp",), rb"RIFF.{4}WEBP"),
    Format("GIF", "GIF", (".gif",), rb"GIF8"),
    # Not cameras' raw files (CR2), which start alike.
    Format("TIFF", "TIFF", (".tif", ".tiff"), rb"(II[*+]\0|MM\0[*+])(?!.{4}CR)"),
    Format("AVIF", "AVIF", (".avif",), rb".{4}ftypavi[fs]"),
)
"""All formats, in the order of docs/pictures.md."""

NAMES = ", ".join(each.name for each in FORMATS[:-1]) + f" or {FORMATS[-1].name}"
"""Their names for messages, as in "send PNG, JPEG or AVIF"."""
