"""A picture in parts, so that what is done to each pixel takes a part's memory and not another picture's."""

from collections.abc import Iterator

BAND_PIXELS = 256 * 1024
"""Most pixels of a part."""

Box = tuple[int, int, int, int]


def bands(size: tuple[int, int]) -> Iterator[Box]:
    """Yields left, top, right and bottom of parts that cover a picture of this width and height once."""
    width, height = size
    columns = min(width, BAND_PIXELS)
    rows = BAND_PIXELS // columns
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield left, top, min(left + columns, width), min(top + rows, height)
