"""A picture takes no more memory than is promised before it is decoded."""

import sys

import pytest

from benchmarks import decode_memory

# Those that take the most of each format; `python -m benchmarks.decode_memory` measures all.
NAMES = (
    "PNG, palette, transparent",
    "PNG, 16 bits, one transparent",
    "JPEG, turned",
    "JPEG, CMYK, progressive",
    "BMP, colour with alpha",
    "GIF, transparent",
    "WebP, lossless, alpha",
    "TIFF, LZW in one strip, alpha",
    "AVIF, 4:4:4, alpha",
)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process took at most")
@pytest.mark.parametrize("name", NAMES)
def test_a_picture_takes_no_more_memory_than_is_promised(name: str) -> None:
    ((_, _, figures),) = decode_memory.measure([name], 2400, 1600)
    for spec, each in zip(decode_memory.SPECS, figures, strict=True):
        assert each.is_kept, f"{spec}: {each.measured:,} bytes of {each.promised:,}"
