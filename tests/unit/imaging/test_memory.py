"""Decoding an image needs no more memory than estimated beforehand."""

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


PLAIN = ("colour", "grey, inverted")
# Declared pictures, each with the format whose own needs leave the least room.
DECLARED = [("imagenet", "JPEG, turned"), ("keras", "PNG, palette, transparent"), ("mnist", "GIF, transparent")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process took at most")
@pytest.mark.parametrize(("specs", "name"), [*((PLAIN, name) for name in NAMES), *(((s,), n) for s, n in DECLARED)])
def test_a_picture_needs_no_more_memory_than_estimated(specs: tuple[str, ...], name: str) -> None:
    ((_, _, figures),) = decode_memory.measure([name], 2400, 1600, specs)
    for spec, each in zip(specs, figures, strict=True):
        assert each.is_kept, f"{spec}: {each.measured:,} bytes of {each.promised:,}"
