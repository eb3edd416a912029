"""Small files that are expensive to decode are refused first; those of cameras and programs are not."""

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelserve.imaging.decode import decode_file, open_file
from pixelserve.imaging.errors import ImageError
from pixelserve.imaging.spec import PictureSpec
from pixelserve.imaging.tiff import first_page

MAX_PIXELS = 50_000_000
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8))


def encoded(kind: str, image: Image.Image = NOISE, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decode_file(data, MAX_PIXELS))


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a description"
    return exif


def jpeg_of_scans(scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encoded("JPEG", progressive=True)
    start, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + data[start:end] * (scans - data.count(b"\xff\xda")) + data[end:]


@pytest.mark.parametrize("scans", [65, 200, 5000])
def test_a_jpeg_of_more_scans_than_programs_write_is_refused(scans: int) -> None:
    with pytest.raises(ImageError, match="JPEG of more than 64 scans; save it again"):
        open_file(jpeg_of_scans(scans), MAX_PIXELS)


def test_a_jpeg_of_many_scans_counts_as_more_pixels_in_the_order_of_decoding() -> None:
    once, ten, sixty = (
        open_file(each, MAX_PIXELS).cost for each in (encoded("JPEG"), jpeg_of_scans(10), jpeg_of_scans(60))
    )
    assert once == 24 * 40
    assert once < ten < sixty


def test_scan_markers_within_metadata_do_not_count() -> None:
    data = encoded("JPEG", comment=b"\xff\xda" * 100)
    assert (pixels(data) == pixels(encoded("JPEG"))).all()


def test_a_jpeg_of_countless_segments_is_refused() -> None:
    data = encoded("JPEG")
    with pytest.raises(ImageError, match="JPEG of more than 10,000 segments"):
        open_file(data[:2] + b"\xff\xe5\0\2" * 10_000 + data[2:], MAX_PIXELS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
def test_a_picture_is_turned_as_its_metadata_say(kind: str, orientation: int) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    methods = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180}
    methods |= {6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
    plain = Image.fromarray(pixels(encoded(kind, **options)))
    upright = plain.transpose(methods[orientation]) if orientation in methods else plain
    assert (pixels(encoded(kind, exif=turned(orientation), **options)) == np.asarray(upright)).all()


def exif_of(tag: int) -> bytes:
    """EXIF data of a million numbers under one tag."""
    entry = struct.pack("<HHLL", tag, 4, 1_000_000, 26)
    return b"II*\0" + struct.pack("<LH", 8, 1) + entry + bytes(4) + struct.pack("<1000000L", *range(1_000_000))


def test_of_exif_data_of_any_size_only_the_orientation_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    files = encoded("PNG", exif=exif_of(0x0112)), encoded("WEBP", exif=exif_of(0x0112), lossless=True)

    def fail(*_: Any) -> None:
        raise AssertionError("Pillow reads all of it")

    monkeypatch.setattr(Image.Exif, "load", fail)
    for each in files:
        assert pixels(each).shape == (24, 40, 3)


def test_an_avif_of_more_exif_data_than_cameras_write_is_refused() -> None:
    with pytest.raises(ImageError, match=r"AVIF file with 4,000,0\d\d bytes of EXIF data"):
        open_file(encoded("AVIF", exif=exif_of(0x9999)), MAX_PIXELS)


@pytest.mark.parametrize(
    "exif", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"nothing of it"]
)
def test_damaged_exif_data_turn_nothing(exif: bytes) -> None:
    assert pixels(encoded("PNG", exif=b"Exif\0\0" + exif)).shape == (24, 40, 3)


def tiff(strips: int, tags: bytes = b"", count: int = 0) -> bytes:
    """A TIFF of grey pixels, one per row, each row in a separate strip, all at the same byte."""
    entries = b"".join(
        struct.pack("<HHLL", tag, 4, 1, value) for tag, value in ((256, 1), (257, strips), (258, 8), (259, 1), (262, 1))
    )
    place = 8 + 2 + 12 * (8 + count) + 4
    entries += struct.pack("<HHLL", 273, 4, strips, place) + struct.pack("<HHLL", 278, 4, 1, 1)
    entries += struct.pack("<HHLL", 279, 4, strips, place) + tags
    return b"II*\0" + struct.pack("<LH", 8, 8 + count) + entries + bytes(4) + struct.pack(f"<{strips}L", *[4] * strips)


def test_a_tiff_of_countless_strips_is_refused() -> None:
    assert pixels(tiff(1000)).shape == (1000, 1)
    with pytest.raises(ImageError, match="TIFF with 200,001 values of tag 273"):
        open_file(tiff(200_001), MAX_PIXELS)


def test_directories_beside_a_tiffs_first_page_are_not_read() -> None:
    exif = struct.pack("<H", 1) + struct.pack("<HHLL", 0x9286, 4, 1, 7) + bytes(4)
    data = tiff(10, struct.pack("<HHLL", 0x8769, 4, 1, 0xAAAAAAAA), 1)
    data = data.replace(struct.pack("<L", 0xAAAAAAAA), struct.pack("<L", len(data))) + exif
    for file, expected in ((data, {0x9286: 7}), (first_page(data), {})):
        with Image.open(io.BytesIO(file)) as image:
            assert image.getexif().get_ifd(0x8769) == expected
    assert pixels(data).shape == (10, 1)


def test_a_gif_of_countless_blocks_before_its_frame_is_refused() -> None:
    data = encoded("GIF", NOISE.convert("P"))
    start = 13 + (3 << (data[10] & 7) + 1)
    assert pixels(data[:start] + b"\x21\xfe" + b"\1x" * 1000 + b"\0" + data[start:]).shape == (24, 40, 3)
    with pytest.raises(ImageError, match="GIF of more than 100,000 blocks of metadata"):
        open_file(data[:start] + b"\x21\xfe" + b"\1x" * 100_000 + b"\0" + data[start:], MAX_PIXELS)


def bmp_in_run_lengths(width: int, height: int) -> bytes:
    palette = bytes(1024)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 2, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + 2, 0, 0, 54 + 1024) + header + palette + b"\0\1"


def test_a_bmp_of_many_pixels_in_run_lengths_is_refused_since_they_are_unpacked_in_python() -> None:
    with pytest.raises(ImageError, match="run-length encoded BMP of 4,004,001 pixels; at most 4,000,000"):
        open_file(bmp_in_run_lengths(2001, 2001), MAX_PIXELS)
    open_file(bmp_in_run_lengths(2000, 2000), MAX_PIXELS)


def palette_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0))
    rows = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9)
    extra = chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", b"\0")
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_palette_of_6_kb_says_before_it_is_decoded_what_its_50_million_pixels_take() -> None:
    data = palette_png(7000, 7000)
    assert len(data) < 7000
    needed = open_file(data, MAX_PIXELS).bytes_needed(PictureSpec(224, 224, 3))
    # One transparent image of 4 bytes per pixel, and its composition on white.
    assert 8 <= needed / 7000**2 < 9


def test_a_picture_of_one_row_needs_the_weights_of_its_length() -> None:
    flat, line = (open_file(palette_png(*size), MAX_PIXELS) for size in ((1000, 1000), (1_000_000, 1)))
    spec = PictureSpec(224, 224, 3)
    assert line.bytes_needed(spec) > flat.bytes_needed(spec) + 16_000_000


def test_what_pillow_warns_of_is_ignored_whatever_filters_are_set_later() -> None:
    # Pillow warns of more than 89 million pixels.
    large = encoded("PNG", Image.new("1", (10_000, 9_000)))
    with warnings.catch_warnings():
        for _ in range(2):
            warnings.simplefilter("error")
            assert open_file(large, 100_000_000).pixels == 90_000_000
