"""Reads a picture's orientation from its metadata, and nothing else.

Pillow reads all metadata, which may be as large as the file, into objects of ten times its size.
"""

import re
import struct

from PIL import Image

_ORIENTATION, _SHORT = 0x0112, 3
_MAX_TAGS = 1000
_IN_XMP = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|>)([1-8])""")

METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that makes a picture upright, by orientation; missing ones, such as 1, are upright."""
SIDEWAYS = (5, 6, 7, 8)
"""Orientations that swap width and height."""


def orientation(exif: bytes, xmp: bytes) -> int:
    """Returns a picture's EXIF orientation, 1 to 8; 1 if it has none.

    Args:
        exif: EXIF data, with or without its 6-byte signature.
        xmp: an XMP packet, used if EXIF has no orientation.
    """
    if (turned := _in_exif(exif.removeprefix(b"Exif\0\0"))) is None:
        match = _IN_XMP.search(xmp)
        turned = int(match[1]) if match else 1
    return turned


def _in_exif(data: bytes) -> int | None:
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}L", data, 4)
        (tags,) = struct.unpack_from(f"{order}H", data, start)
        for at in range(start + 2, start + 2 + 12 * min(tags, _MAX_TAGS), 12):
            tag, kind, count, value = struct.unpack_from(f"{order}HHLH", data, at)
            if (tag, kind, count) == (_ORIENTATION, _SHORT, 1):
                return int(value)
    except struct.error:
        pass
    return None
