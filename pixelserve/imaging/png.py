"""PNG files without what says nothing about pixels: texts and colour profiles, which can be large, and unpack larger.

Pillow refuses a picture whose text or profile unpacks to more than a megabyte, as picture generators write them. What
is left out here is never unpacked.
"""

import struct

from .errors import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_SHOWN = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS")
# Each costs the interpreter some microseconds. 64 MiB in pieces of 8 KiB, libpng's, are 8,192.
_MAX_CHUNKS = 100_000


def without_metadata(data: bytes) -> tuple[bytes, bytes]:
    """Returns a PNG file with only the chunks that decide how it looks, and its EXIF data, empty if it has none.

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
    """Returns the level that a grey PNG's tRNS chunk makes transparent, as Pillow's pixels have it.

    Pillow spreads 2 and 4 bits over 0 to 255, and leaves the chunk's number as it is.
    """
    depth = data[24]
    return level * 255 // (2**depth - 1) if depth < 8 else level


def transparent_colour(data: bytes, colour: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the colour that a PNG's tRNS chunk makes transparent, as Pillow's pixels have it: 8 bits of 16."""
    return tuple(value >> 8 for value in colour) if data[24] == 16 else colour
