"""Files of other programs, built byte by byte, decode as they do there, within the stated cost."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelserve.imaging.avif import first_picture
from pixelserve.imaging.decode import decode_file, open_file
from pixelserve.imaging.errors import ImageError
from pixelserve.imaging.prepare import prepare
from pixelserve.imaging.spec import PictureSpec

MAX_PIXELS = 50_000_000
RED, GREEN, BLUE = 0xFF0000, 0xFF00, 0xFF


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, depth: int, colour_type: int, row: bytes, *extra: bytes, last: bytes = b"") -> bytes:
    """One row of pixels, with further chunks before and after them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour_type, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + pixels + last + chunk(b"IEND", b"")


def transparent(*levels: int) -> bytes:
    return chunk(b"tRNS", struct.pack(f">{len(levels)}H", *levels))


def bmp(pixels: bytes, *masks: int) -> bytes:
    """One row of 32 bits a pixel, with a header that says which bits are which."""
    header = struct.pack("<IiiHHIIiiII", 124, len(pixels) // 4, 1, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    header = (header + struct.pack("<IIII", *masks)).ljust(124, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + 124 + len(pixels), 0, 0, 14 + 124) + header + pixels


def tiff(width: int, pixels: bytes, tags: dict[int, Any], height: int = 1) -> bytes:
    """One page of one strip, or of one tile; `tags` add to the usual ones by their numbers."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1} | tags
    offset, count = (324, 325) if 322 in tags else (273, 279)
    tags |= {offset: 0, count: len(pixels)}
    entries, values = b"", b""
    for tag, given in sorted(tags.items()):
        numbers: Sequence[int] = given if isinstance(given, tuple) else (given,)
        kind, code = (4, "I") if max(numbers) > 65535 or tag == offset else (3, "H")
        packed = struct.pack(f"<{len(numbers)}{code}", *numbers)
        if len(packed) > 4:
            place = 8 + 2 + 12 * len(tags) + 4 + len(values)
            values, packed = values + packed, struct.pack("<I", place)
        elif tag == offset:
            packed = b"HERE"
        entries += struct.pack("<HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0")
    file = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + values
    return file.replace(b"HERE", struct.pack("<I", len(file))) + pixels


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def seen(data: bytes) -> list[list[int]]:
    """Returns the pixels that a colour model of the picture's size is given."""
    image = decode_file(data, MAX_PIXELS)
    assert image.mode in ("L", "LA", "RGB", "RGBA")
    pixels: list[list[int]] = prepare(image, PictureSpec(image.height, image.width, 3)).reshape(-1, 3).tolist()
    return pixels


def grey(*levels: int) -> list[list[int]]:
    return [[level] * 3 for level in levels]


WHITE = 255
PALETTE = chunk(b"PLTE", bytes([0, 0, 0, 10, 20, 30, 40, 50, 60]))
SHOWN = {
    "grey of 8 bits, one transparent": (png(2, 8, 0, bytes([10, 200]), transparent(10)), grey(WHITE, 200)),
    "grey of 4 bits, one transparent": (png(2, 4, 0, bytes([0x3A]), transparent(3)), grey(WHITE, 0xAA)),
    "grey of 2 bits, one transparent": (png(4, 2, 0, bytes([0b00011011]), transparent(1)), grey(0, WHITE, 170, 255)),
    "black and white, black transparent": (png(2, 1, 0, bytes([0b01000000]), transparent(0)), grey(WHITE, 255)),
    "grey of 16 bits": (png(2, 16, 0, struct.pack(">2H", 1000, 50000)), grey(3, 195)),
    "grey of 16 bits, one transparent": (
        png(3, 16, 0, struct.pack(">3H", 1000, 1001, 50000), transparent(1000)),
        grey(WHITE, 3, 195),
    ),
    "grey of 16 bits with alpha": (png(2, 16, 4, struct.pack(">4H", 1000, 65535, 50000, 0)), grey(3, WHITE)),
    "colour of 8 bits, one transparent": (
        png(2, 8, 2, bytes([1, 2, 3, 4, 5, 6]), transparent(1, 2, 3)),
        [[255, 255, 255], [4, 5, 6]],
    ),
    "colour of 16 bits, one transparent": (
        png(2, 16, 2, struct.pack(">6H", 1000, 2000, 3000, 60000, 0, 256), transparent(1000, 2000, 3000)),
        [[255, 255, 255], [234, 0, 1]],
    ),
    "a palette, one transparent": (
        png(3, 8, 3, bytes([0, 1, 2]), PALETTE, chunk(b"tRNS", b"\xff\0")),
        [[0, 0, 0], [255, 255, 255], [40, 50, 60]],
    ),
    "BMP whose declared alpha is unused": (
        bmp(bytes([30, 20, 10, 0, 60, 50, 40, 0]), RED, GREEN, BLUE, 0xFF000000),
        [[10, 20, 30], [40, 50, 60]],
    ),
    "BMP whose alpha is used": (
        bmp(bytes([30, 20, 10, 0, 60, 50, 40, 255]), RED, GREEN, BLUE, 0xFF000000),
        [[255, 255, 255], [40, 50, 60]],
    ),
    "BMP without alpha": (bmp(bytes([30, 20, 10, 0]), RED, GREEN, BLUE, 0), [[10, 20, 30]]),
    "TIFF, white is 0": (tiff(2, bytes([10, 200]), {262: 0}), grey(245, 55)),
    "TIFF of 16 bits": (tiff(2, struct.pack("<2H", 1000, 50000), {258: 16}), grey(3, 195)),
    "TIFF of 16 bits, white is 0": (tiff(2, struct.pack("<2H", 1000, 50000), {258: 16, 262: 0}), grey(252, 60)),
    "TIFF of 12 bits": (tiff(2, bytes([0x7F, 0xF0, 0x10]), {258: 12}), grey(127, 1)),
    "TIFF of 16 bits a colour": (
        tiff(1, struct.pack("<3H", 1000, 30000, 65535), {258: (16, 16, 16), 262: 2, 277: 3}),
        [[3, 117, 255]],
    ),
    "TIFF in CMYK": (tiff(1, bytes([255, 0, 0, 0]), {258: (8, 8, 8, 8), 262: 5, 277: 4}), [[0, 255, 255]]),
    "TIFF with alpha": (
        tiff(1, bytes([200, 100, 50, 0]), {258: (8, 8, 8, 8), 262: 2, 277: 4, 338: 2}),
        [[255, 255, 255]],
    ),
    "TIFF of grey multiplied by alpha": (tiff(1, bytes([100, 255]), {258: (8, 8), 277: 2, 338: 1}), grey(100)),
}


@pytest.mark.parametrize(("data", "pixels"), SHOWN.values(), ids=SHOWN)
def test_a_picture_looks_as_other_programs_show_it(data: bytes, pixels: list[list[int]]) -> None:
    assert seen(data) == pixels


def test_a_cmyk_photograph_of_adobes_is_not_a_negative() -> None:
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert np.abs(np.array(seen(encoded(ink, "JPEG", quality=100))) - [255, 0, 0]).max() < 6


def test_what_a_gifs_first_frame_leaves_free_is_transparent() -> None:
    frame = Image.new("P", (2, 1), 0)
    frame.putpalette([10, 20, 30, 1, 1, 1])
    data = bytearray(encoded(frame, "GIF"))
    data[6:10] = struct.pack("<HH", 3, 2)
    descriptor = data.index(b",", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    data[descriptor + 1 : descriptor + 5] = struct.pack("<HH", 1, 1)
    white = [255, 255, 255]
    assert seen(bytes(data)) == [white, white, white, white, [10, 20, 30], [10, 20, 30]]


@pytest.mark.parametrize("kind", ["AVIF", "TIFF", "WEBP", "GIF"])
def test_of_several_frames_or_pages_the_first_is_shown(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((200, 10, 10), (10, 10, 200))]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(np.array(seen(data)) - [200, 10, 10]).max() < 6


def test_of_an_animated_avif_only_the_still_picture_is_decoded() -> None:
    # The frames of the animation itself are not measured beforehand.
    data = encoded(Image.new("L", (16, 16)), "AVIF", save_all=True, append_images=[Image.new("L", (16, 16), 9)])
    with Image.open(io.BytesIO(first_picture(data))) as image:
        assert getattr(image, "n_frames", 1) == 1


TEXT = zlib.compress(b"x" * 3_000_000)
METADATA = {
    "a compressed text": chunk(b"zTXt", b"parameters\0\0" + TEXT),
    "a text of another language": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + TEXT),
    "a colour profile": chunk(b"iCCP", b"profile\0\0" + TEXT),
    "sixty texts": chunk(b"zTXt", b"parameters\0\0" + TEXT) * 60,
    "a text as it is": chunk(b"tEXt", b"parameters\0" + b"x" * 3_000_000),
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA)
@pytest.mark.parametrize("is_first", [True, False], ids=["before the pixels", "after them"])
def test_a_png_is_read_whatever_its_metadata_unpack_to(metadata: bytes, is_first: bool) -> None:
    pixels = bytes([10, 20, 30])
    data = png(1, 8, 2, pixels, metadata) if is_first else png(1, 8, 2, pixels, last=metadata)
    assert seen(data) == [[10, 20, 30]]


def test_a_png_of_countless_chunks_is_refused() -> None:
    with pytest.raises(ImageError, match="PNG of more than 100,000 chunks"):
        decode_file(png(1, 8, 2, bytes(3), chunk(b"tEXt", b"") * 100_000), MAX_PIXELS)


@pytest.mark.parametrize("bits", [{258: 32}, {258: 32, 339: 3}, {258: 16, 339: 2}], ids=["32 bits", "float", "signed"])
def test_a_tiff_of_numbers_without_an_agreed_range_is_refused(bits: dict[int, int]) -> None:
    with pytest.raises(
        ImageError, match="TIFF of 32-bit or signed numbers, which have no agreed range; save it with 8"
    ):
        decode_file(tiff(1, bytes(4), bits), MAX_PIXELS)


def test_a_tiff_whose_first_page_is_a_thumbnail_is_refused() -> None:
    with pytest.raises(ImageError, match="first page is a thumbnail"):
        decode_file(tiff(1, bytes(1), {254: 1}), MAX_PIXELS)


def test_a_tiff_of_a_few_pixels_in_a_giant_tile_is_refused_before_it_is_decoded() -> None:
    giant = {322: 32768, 323: 16384, 259: 8}
    with pytest.raises(ImageError, match="TIFF of 16 × 16 pixels in tiles of 536,870,912"):
        decode_file(tiff(16, zlib.compress(bytes(1000)), giant, height=16), MAX_PIXELS)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_a_damaged_tiff_prints_nothing(compression: str, capfd: pytest.CaptureFixture[str]) -> None:
    """What libtiff prints would stand between a server's lines of log."""
    data = bytearray(encoded(Image.new("RGB", (64, 64)), "TIFF", compression=compression))
    with Image.open(io.BytesIO(data)) as image:
        (start,) = image.tag_v2[273]  # type: ignore[attr-defined]
    data[start : start + 40] = bytes(range(200, 240))
    with pytest.raises(ImageError):
        decode_file(bytes(data), MAX_PIXELS)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_what_pillow_logs_of_a_bad_file_is_not_printed() -> None:
    # In a separate process, without logging configured.
    code = "import sys; from pixelserve.imaging.decode import decode_file; decode_file(sys.stdin.buffer.read(), 100)"
    data = tiff(1, bytes(1), {277: 200})
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True)
    assert b"ImageError: this starts like a TIFF file" in done.stderr
    assert b"More samples per pixel" not in done.stderr


def test_a_tiff_in_ordinary_tiles_is_read() -> None:
    assert seen(tiff(16, bytes([9]) * 256 * 256, {322: 256, 323: 256}, height=16)) == grey(9) * 256


def test_an_avif_whose_frame_is_larger_than_it_says_is_refused_before_it_is_decoded() -> None:
    data = bytearray(encoded(Image.new("L", (2048, 2048)), "AVIF", speed=10))
    size = data.index(b"ispe") + 8
    data[size : size + 8] = struct.pack(">II", 8, 8)
    with pytest.raises(ImageError, match="AVIF file with a size of 64 pixels and frames of 4,194,304"):
        decode_file(bytes(data), MAX_PIXELS)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_an_avif_of_every_size_is_read(mode: str) -> None:
    for size in ((1, 1), (7, 300), (300, 7)):
        assert decode_file(encoded(Image.new(mode, size), "AVIF", speed=10), MAX_PIXELS).size == size


def test_damaged_bytes_anywhere_cost_an_error_and_no_more() -> None:
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    pictures = [encoded(noise, kind) for kind in ("PNG", "AVIF", "TIFF", "GIF", "BMP", "WEBP")]
    pictures += [encoded(noise.quantize(4), kind) for kind in ("PNG", "TIFF", "GIF", "BMP")]
    for picture in pictures:
        whole = np.frombuffer(picture, np.uint8)
        for _ in range(40):
            damaged = whole.copy()
            damaged[random.integers(0, len(whole), 8)] = random.integers(0, 256, 8)
            try:
                opened = open_file(damaged.tobytes(), MAX_PIXELS)
                assert opened.bytes_needed(PictureSpec(4, 4, 3))
                assert opened.decode().mode in ("L", "LA", "RGB", "RGBA")
            except ImageError:
                continue


def test_a_palette_that_is_missing_is_named() -> None:
    with pytest.raises(ImageError, match="a PNG with a palette, which is missing"):
        open_file(png(1, 8, 3, b"\0"), MAX_PIXELS)
