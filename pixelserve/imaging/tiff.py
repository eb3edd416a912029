"""Reads a TIFF file's header: whether it can be decoded in bounded memory, and the meaning of its numbers."""

import contextlib
import ctypes
import struct
from pathlib import Path
from typing import Any

from .errors import ImageError

# TIFF's tag numbers.
_SUBFILE, _BITS, _PHOTOMETRIC, _ORIENTATION, _ROWS, _TILE_WIDTH, _TILE_LENGTH = 254, 258, 262, 274, 278, 322, 323
_WHITE_IS_ZERO = 0
_REDUCED_RESOLUTION = 1
# A tile is decoded whole, even for a small picture; programs write 64 to 1024 pixels per side.
_SMALL_TILE_PIXELS = 1024 * 1024

_ORDERS = {b"II": "<", b"MM": ">"}
# SubIFDs, and EXIF's, GPS's and interoperability's.
_POINTERS = (330, 0x8769, 0x8825, 0xA005)
_BYTES, _ASCII, _UNDEFINED = 1, 2, 7
# A 16-bit palette has 196,608; each costs 40 bytes or, for a strip's offset, 500.
_MAX_VALUES = 200_000
_MAX_TAGS = 4096
_TILE_OBJECT_BYTES = 500


def first_page(data: bytes) -> bytes:
    """Returns a TIFF file with only its first page and without metadata directories.

    Pillow converts all values in these to numbers, at ten times their size. Other data is unchanged.

    Raises:
        ImageError: the page has more strips, tiles or other values than any program writes.
    """
    order = _ORDERS.get(data[:2])
    if order is None or data[2:4].strip(b"\0") not in (b"*", b"+"):
        return data
    # Pillow's own test for BigTIFF, which misses the other byte order.
    is_big = data[2] == ord("+")
    entry, next_page = (f"{order}HHQ8x", f"{order}Q") if is_big else (f"{order}HHL4x", f"{order}L")
    page = bytearray(data)
    try:
        (start,) = struct.unpack_from(next_page, data, 8 if is_big else 4)
        (tags,) = struct.unpack_from(f"{order}Q" if is_big else f"{order}H", data, start)
        if tags > _MAX_TAGS:
            raise ImageError(f"the picture is a TIFF of {tags:,} tags; save it again")
        at = start + (8 if is_big else 2)
        for _ in range(tags):
            tag, kind, count = struct.unpack_from(entry, data, at)
            if tag in _POINTERS:
                # Skip tags of unknown type.
                struct.pack_into(f"{order}H", page, at + 2, 0)
            elif count > _MAX_VALUES and kind not in (_BYTES, _ASCII, _UNDEFINED):
                raise ImageError(f"the picture is a TIFF with {count:,} values of tag {tag}; save it again")
            at += struct.calcsize(entry)
        struct.pack_into(next_page, page, at, 0)
    except struct.error:
        # Pillow reads the tags before the file's end.
        pass
    return bytes(page)


def check(image: Any) -> None:
    """Checks an opened TIFF file before decoding.

    Raises:
        ImageError: its first page is a thumbnail, or its tiles are too large for its picture.
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
            f"the picture is a TIFF of {image.width} × {image.height} pixels in tiles of {tile:,}; save it again"
        )


def decoder_bytes(image: Any) -> int:
    """Returns the memory for decoding a checked file, besides the picture: a strip or tile, and their list."""
    tags = image.tag_v2
    tile = tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_LENGTH, 0)
    width, height = image.tile[0][1][2:] if image.tile else image.size
    strip = width * min(tags.get(_ROWS, height), height)
    # libtiff decodes coded colours to 4 bytes per pixel.
    pixel = max(sum(tags.get(_BITS, (1,))) // 8, 4)
    return int(max(tile, strip) * pixel + _TILE_OBJECT_BYTES * len(image.tile))


def is_turned(image: Any) -> bool:
    """Returns whether Pillow rotates the picture after decoding."""
    return bool(image.tag_v2.get(_ORIENTATION, 1) != 1)


def grey_bits(image: Any) -> tuple[int, bool]:
    """Returns the bits per grey pixel, and whether 0 is white."""
    bits = image.tag_v2.get(_BITS, (16,))
    return bits[0], image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def silence_libtiff() -> None:
    """Stops libtiff from printing errors on stderr.

    Pillow loads libtiff without a switch for this. If libtiff is not found, it keeps printing.
    """
    with contextlib.suppress(OSError, AttributeError):
        mapped = Path("/proc/self/maps").read_text().splitlines()
        # A line's sixth and last column is the file's path, which may contain spaces.
        for path in {line.split(maxsplit=5)[5] for line in mapped if "/libtiff" in line}:
            library = ctypes.CDLL(path)
            library.TIFFSetErrorHandler(None)
            library.TIFFSetWarningHandler(None)
