"""Splits a picture into bands, so per-pixel operations need memory for one band, not a second picture."""

from collections.abc import Iterator

BAND_PIXELS = 256 * 1024
"""Maximum pixels per band."""

Box = tuple[int, int, int, int]


def bands(size: tuple[int, int]) -> Iterator[Box]:
    """Yields left, top, right and bottom of bands that cover a picture of this width and height."""
    width, height = size
    columns = min(width, BAND_PIXELS)
    rows = BAND_PIXELS // columns
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield left, top, min(left + columns, width), min(top + rows, height)
