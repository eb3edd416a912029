"""Removes JPEG metadata, and counts the passes of the decoder over the picture.

Each scan refines the picture and costs a pass over all of it, even if it has few bytes: a 30 KB file can have thousands
of scans.
"""

import re
import struct
from typing import Any, NamedTuple

from .errors import ImageError

SIGNATURE = b"\xff\xd8\xff"

# Programs write 10 for a progressive picture, and about 20 when optimising for size.
_MAX_SCANS = 64
# A large profile or thumbnail takes 100 or 200.
_MAX_SEGMENTS = 10_000

# libjpeg works on a few rows of blocks; their sides are a multiple of up to four blocks of 8 pixels.
_ROW_BYTES = 200
_BLOCK = 32

_SCAN, _END, _COMMENT = 0xDA, 0xD9, 0xFE
# JFIF's and Adobe's declare the colour coding.
_APPLICATIONS, _SHOWN = range(0xE0, 0xF0), (0xE0, 0xEE)
# In a scan's data 0xFF is followed by 0 or by a restart marker; before a marker it may be repeated.
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd8]")
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"


class Plain(NamedTuple):
    """A JPEG file ready for decoding."""

    data: bytes
    """The file, without metadata."""
    exif: bytes
    """The first EXIF segment's content, or empty."""
    xmp: bytes
    """The first XMP segment's content, or empty."""
    scans: int
    """The number of scans."""
    first_scan: int
    """The number of components in the first scan."""


def without_metadata(data: bytes) -> Plain:
    """Returns a JPEG file with only the segments that affect its pixels; damaged files stay damaged.

    Raises:
        ImageError: it has more scans or segments than any program writes.
    """
    kept: list[bytes] = []
    found = {_EXIF: b"", _XMP: b""}
    scans, first_scan, at, start = 0, 0, 2, 0
    for _ in range(_MAX_SEGMENTS):
        match = _MARKER.search(data, at)
        if match is None or data[match.end() - 1] == _END or match.end() + 2 > len(data):
            kept.append(data[start:])
            return Plain(data if start == 0 else b"".join(kept), found[_EXIF], found[_XMP], scans, first_scan)
        marker, content = data[match.end() - 1], match.end() + 2
        (length,) = struct.unpack_from(">H", data, match.end())
        at = match.end() + max(length, 2)
        if marker == _SCAN:
            scans += 1
            first_scan = first_scan or data[min(content, len(data) - 1)]
            if scans > _MAX_SCANS:
                raise ImageError(f"the picture is a JPEG of more than {_MAX_SCANS} scans; save it again")
        elif marker == _COMMENT or (marker in _APPLICATIONS and marker not in _SHOWN):
            for name in found:
                if marker == 0xE1 and not found[name] and data.startswith(name, content):
                    found[name] = data[content + len(name) : at]
            kept.append(data[start : match.start()])
            start = min(at, len(data))
    raise ImageError(f"the picture is a JPEG of more than {_MAX_SEGMENTS:,} segments; save it again")


def decoder_bytes(image: Any, plain: Plain | None) -> int:
    """Returns the memory for decoding an opened file, besides the picture.

    If its components come in several scans, all coefficients are kept: 2 bytes each, in blocks.
    """
    layers: int = image.layers
    width, height = image.size
    rows: int = _ROW_BYTES * width
    if plain is not None and plain.scans == 1 and plain.first_scan == layers and "progressive" not in image.info:
        return rows
    return rows + 2 * layers * int((width + _BLOCK) * (height + _BLOCK))
