"""Removes PNG texts and colour profiles, which do not affect pixels and can unpack to a large size.

Pillow refuses a picture whose text or profile unpacks to more than a megabyte, which image generators write. Removed
chunks are never unpacked.
"""

import struct

from .errors import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_SHOWN = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS")
# Each costs the interpreter some microseconds. 64 MiB in libpng's chunks of 8 KiB are 8,192.
_MAX_CHUNKS = 100_000


def without_metadata(data: bytes) -> tuple[bytes, bytes]:
    """Returns a PNG file with only the chunks that affect its pixels, and its EXIF data, or empty.

    Damaged files stay damaged.

    Raises:
        ImageError: it has more chunks than any program writes.
    """
    kept: list[tuple[int, int]] = []
    exif = b""
    start, count = len(SIGNATURE), 0
    while start + 8 <= len(data):
        count += 1
        if count > _MAX_CHUNKS:
            raise ImageError(f"the picture is a PNG of more than {_MAX_CHUNKS:,} chunks; save it again")
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if kind in _SHOWN:
            kept.append((start, end))
        elif kind == b"eXIf":
            exif = data[start + 8 : end - 4]
        start = end
    if len(kept) == count:
        return data, exif
    return SIGNATURE + b"".join([data[start:end] for start, end in kept]), exif


def transparent_level(data: bytes, level: int) -> int:
    """Returns the transparent level of a grey PNG's tRNS chunk, as in Pillow's pixels.

    Pillow scales 2 and 4 bits to 0 to 255, but not the chunk's number.
    """
    depth = data[24]
    return level * 255 // (2**depth - 1) if depth < 8 else level


def transparent_colour(data: bytes, colour: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the transparent colour of a PNG's tRNS chunk, as in Pillow's pixels: 8 bits of 16."""
    return tuple(value >> 8 for value in colour) if data[24] == 16 else colour
