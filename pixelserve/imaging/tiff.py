"""What a TIFF file's header says: whether it can be decoded in bounded memory, and what its numbers mean."""

import contextlib
import ctypes
from pathlib import Path
from typing import Any

from .errors import ImageError

# TIFF's tags by their numbers.
_SUBFILE, _BITS, _PHOTOMETRIC, _TILE_WIDTH, _TILE_LENGTH = 254, 258, 262, 322, 323
_WHITE_IS_ZERO = 0
_REDUCED_RESOLUTION = 1
# A tile is decoded whole, however small the picture; programs write 64 to 1024 pixels a side.
_SMALL_TILE_PIXELS = 1024 * 1024


def check(image: Any) -> None:
    """Checks a TIFF file that was opened and not decoded.

    Raises:
        ImageError: its first page is a thumbnail, or its tiles are larger than its picture explains.
    """
    tags = image.tag_v2
    if tags.get(_SUBFILE, 0) & _REDUCED_RESOLUTION:
        raise ImageError(
            "the picture is a TIFF whose first page is a thumbnail, as cameras' raw files have one; "
            "send it developed, as JPEG or PNG"
        )
    tile = tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_LENGTH, 0)
    if tile > max(4 * image.width * image.height, _SMALL_TILE_PIXELS):
        raise ImageError(
            f"the picture is a TIFF of {image.width} × {image.height} pixels in tiles of {tile:,}; save it anew"
        )


def grey_bits(image: Any) -> tuple[int, bool]:
    """Returns how many bits a grey pixel has, and whether 0 is white."""
    bits = image.tag_v2.get(_BITS, (16,))
    return bits[0], image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def silence_libtiff() -> None:
    """Keeps libtiff from printing what is wrong with a file on stderr.

    Pillow loads it and has no switch for that. Where it cannot be found it goes on printing.
    """
    with contextlib.suppress(OSError, AttributeError):
        mapped = Path("/proc/self/maps").read_text().splitlines()
        # A line's sixth and last column is the file's path, which may have spaces.
        for path in {line.split(maxsplit=5)[5] for line in mapped if "/libtiff" in line}:
            library = ctypes.CDLL(path)
            library.TIFFSetErrorHandler(None)
            library.TIFFSetWarningHandler(None)
