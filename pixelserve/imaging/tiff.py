"""What a TIFF file's header says: whether it can be decoded in bounded memory, and what its numbers mean."""

import contextlib
import ctypes
import struct
from pathlib import Path
from typing import Any

from .errors import ImageError

# TIFF's tags by their numbers.
_SUBFILE, _BITS, _PHOTOMETRIC, _ORIENTATION, _ROWS, _TILE_WIDTH, _TILE_LENGTH = 254, 258, 262, 274, 278, 322, 323
_WHITE_IS_ZERO = 0
_REDUCED_RESOLUTION = 1
# A tile is decoded whole, however small the picture; programs write 64 to 1024 pixels a side.
_SMALL_TILE_PIXELS = 1024 * 1024

_ORDERS = {b"II": "<", b"MM": ">"}
# SubIFDs, and EXIF's, GPS's and interoperability's.
_POINTERS = (330, 0x8769, 0x8825, 0xA005)
_BYTES, _ASCII, _UNDEFINED = 1, 2, 7
# A palette of 16 bits has 196,608; each costs 40 bytes or, where it is a strip's offset, 500.
_MAX_VALUES = 200_000
_MAX_TAGS = 4096
_TILE_OBJECT_BYTES = 500


def first_page(data: bytes) -> bytes:
    """Returns a TIFF file that has its first page only, and no metadata in directories of its own.

    Pillow makes numbers of all values in these, at ten times their size. Other data is left as it is.

    Raises:
        ImageError: the page has more strips, tiles or other values than any program writes.
    """
    order = _ORDERS.get(data[:2])
    if order is None or data[2:4].strip(b"\0") not in (b"*", b"+"):
        return data
    # As Pillow tells BigTIFF, which misses it in the other order.
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
                # Of no known type, it is passed over.
                struct.pack_into(f"{order}H", page, at + 2, 0)
            elif count > _MAX_VALUES and kind not in (_BYTES, _ASCII, _UNDEFINED):
                raise ImageError(f"the picture is a TIFF with {count:,} values of tag {tag}; save it again")
            at += struct.calcsize(entry)
        struct.pack_into(next_page, page, at, 0)
    except struct.error:
        # Pillow takes the tags that come before the file's end.
        pass
    return bytes(page)


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
            f"the picture is a TIFF of {image.width} × {image.height} pixels in tiles of {tile:,}; save it again"
        )


def decoder_bytes(image: Any) -> int:
    """Returns how much memory decoding a checked file takes beside the picture: a strip or tile, and their list."""
    tags = image.tag_v2
    tile = tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_LENGTH, 0)
    width, height = image.tile[0][1][2:] if image.tile else image.size
    strip = width * min(tags.get(_ROWS, height), height)
    # libtiff makes 4 bytes a pixel of coded colours.
    pixel = max(sum(tags.get(_BITS, (1,))) // 8, 4)
    return int(max(tile, strip) * pixel + _TILE_OBJECT_BYTES * len(image.tile))


def is_turned(image: Any) -> bool:
    """Returns whether Pillow will turn the picture after it is decoded."""
    return bool(image.tag_v2.get(_ORIENTATION, 1) != 1)


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
