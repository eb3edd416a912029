"""Reads the frame sizes of an AVIF file from its AV1 headers, before anything is decoded.

Pillow reports the size in the file's header, but the decoder uses the frames' sizes. A 2 KB file can hold frames of
16,384 × 16,384 pixels under an 8 × 8 header; decoding them takes up to 1.5 GB.
"""

import struct
from collections.abc import Iterator

from .errors import ImageError

# With transparency, a thumbnail and a gain map, a picture has at most four times its pixels; tiles may be padded.
_MOST_FRAMES = 4
_PADDING_PIXELS = 1024 * 1024
_MAX_PARTS = 10_000
_SEQUENCE_HEADER = 1
# Camera thumbnails take a tenth of it.
_MAX_EXIF_BYTES = 1024 * 1024


def first_picture(data: bytes) -> bytes:
    """Returns an AVIF file whose still picture is decoded; animations also contain their first frame as a still."""
    return data[:8] + b"avif" + data[12:] if data[4:12] == b"ftypavis" else data


def check(data: bytes, pixels: int) -> int:
    """Checks the frames of an AVIF file whose header declares this number of pixels.

    Returns:
        The bytes of memory of its frames.

    Raises:
        ImageError: its frames have many more pixels, or are missing.
    """
    try:
        sizes = [(width * height, depth) for item in _coded_items(data) for width, height, depth in _frame_sizes(item)]
    except (struct.error, IndexError, KeyError) as error:
        raise ImageError("the picture is a damaged AVIF file; send the whole file") from error
    frames = sum(frame for frame, _ in sizes)
    if not frames:
        raise ImageError("the picture is an AVIF file without a still picture; send it as PNG or JPEG")
    if frames > _MOST_FRAMES * pixels + _PADDING_PIXELS:
        raise ImageError(
            f"the picture is an AVIF file with a size of {pixels:,} pixels and frames of {frames:,}; save it again"
        )
    return sum(frame * depth for frame, depth in sizes)


def check_metadata(data: bytes) -> None:
    """Checks an AVIF file before it is opened; damaged files are checked as far as possible.

    Raises:
        ImageError: it has more EXIF data than any program writes; Pillow needs ten times its size.
    """
    try:
        sizes = [len(item) for item in _items(data, b"Exif")] if data[4:8] == b"ftyp" else []
    except (struct.error, IndexError, KeyError):
        return
    if sum(sizes) > _MAX_EXIF_BYTES:
        raise ImageError(f"the picture is an AVIF file with {sum(sizes):,} bytes of EXIF data; save it again")


def _coded_items(data: bytes) -> Iterator[bytes]:
    """Yields the AV1 data of each item."""
    return _items(data, b"av01")


def _items(data: bytes, wanted: bytes) -> Iterator[bytes]:
    """Yields the content of each item of a type."""
    start, end = dict(_boxes(data, 0, len(data)))[b"meta"]
    # A full box has 4 bytes of version and flags before its content.
    boxes = dict(_boxes(data, start + 4, end))
    idat, _ = boxes.get(b"idat", (0, 0))
    coded = {number for number, kind in _item_kinds(data, *boxes[b"iinf"]) if kind == wanted}
    for number, extents in _locations(data, boxes[b"iloc"][0], idat):
        if number in coded:
            yield b"".join([data[first : first + length] for first, length in extents])


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Yields each box's type, and the start and end of its content."""
    for _ in range(_MAX_PARTS):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            header = 16
        stop = end if size == 0 else min(start + size, end)
        if stop < start + header:
            raise IndexError
        yield kind, (start + header, stop)
        start = stop


def _item_kinds(data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yields the number and type of each item in the item information box."""
    for kind, (at, _) in _boxes(data, start + (6 if data[start] == 0 else 8), end):
        if kind == b"infe" and data[at] >= 2:
            yield struct.unpack_from(">H2x4s" if data[at] == 2 else ">I2x4s", data, at + 4)


def _locations(data: bytes, start: int, idat: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yields each item's number, and its pieces' offsets and lengths, from the item location box."""
    reader = _Bytes(data, start)
    version = reader.number(1)
    reader.number(3)
    sizes, more = reader.number(1), reader.number(1)
    offset_size, length_size, base_size = sizes >> 4, sizes & 15, more >> 4
    index_size = more & 15 if version else 0
    number_size = 4 if version == 2 else 2
    parts = 0
    for _ in range(reader.number(number_size)):
        number = reader.number(number_size)
        is_in_idat = bool(version and reader.number(2) & 15)
        reader.number(2)
        base = reader.number(base_size) + (idat if is_in_idat else 0)
        count = reader.number(2)
        parts += count + 1
        if parts > _MAX_PARTS:
            raise IndexError
        extents = []
        for _ in range(count):
            reader.number(index_size)
            offset = base + reader.number(offset_size)
            extents.append((offset, reader.number(length_size) or len(data)))
        yield number, extents


class _Bytes:
    """Reads big-endian numbers in sequence."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data, self._at = data, start

    def number(self, size: int) -> int:
        self._at += size
        if self._at > len(self._data):
            raise IndexError
        return int.from_bytes(self._data[self._at - size : self._at], "big")


def _frame_sizes(item: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields the maximum width, height and bytes per pixel of each sequence header in AV1 data."""
    at = 0
    for _ in range(_MAX_PARTS):
        if at >= len(item):
            return
        head = item[at]
        at += 2 if head & 4 else 1
        size = len(item) - at
        if head & 2:
            size, at = _leb128(item, at)
        if (head >> 3) & 15 == _SEQUENCE_HEADER:
            yield _sequence_size(item[at : at + size])
        at += size
    raise IndexError


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 56, 7):
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            break
    return value, at


def _sequence_size(header: bytes) -> tuple[int, int, int]:
    """Reads a sequence header up to its colour depth (AV1 specification, 5.5.1 and 5.5.2)."""
    bits = _Bits(header)
    profile = bits.read(3)
    bits.read(1)
    is_still = bits.read(1)
    if is_still:
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    width, height = bits.read(width_bits) + 1, bits.read(height_bits) + 1
    if not is_still:
        _skip_frame_ids(bits)
    bits.read(3)
    if not is_still:
        _skip_tools(bits)
    bits.read(3)
    is_deep = bits.read(1)
    # Profile 0 has colour at half resolution: 1.5 values per pixel.
    values = 2 if profile == 0 else 3
    return width, height, values * (1 + is_deep)


def _skip_frame_ids(bits: "_Bits") -> None:
    if bits.read(1):
        bits.read(7)


def _skip_tools(bits: "_Bits") -> None:
    bits.read(4)
    has_order = bits.read(1)
    if has_order:
        bits.read(2)
    # Chosen per frame, or set here.
    if (bits.read(1) or bits.read(1)) and not bits.read(1):
        bits.read(1)
    if has_order:
        bits.read(3)


def _skip_operating_points(bits: "_Bits") -> None:
    if bits.read(1):
        raise ImageError("the picture is an AVIF file with a video's timing; send it as PNG or JPEG")
    has_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if has_delay and bits.read(1):
            bits.read(4)


class _Bits:
    """Reads bits, most significant first."""

    def __init__(self, data: bytes) -> None:
        # The sizes are in a header's first 100 bytes, including 32 operating points.
        self._text = "".join(f"{byte:08b}" for byte in data[:100])
        self._at = 0

    def read(self, count: int) -> int:
        self._at += count
        if self._at > len(self._text):
            raise IndexError
        return int(self._text[self._at - count : self._at], 2)
