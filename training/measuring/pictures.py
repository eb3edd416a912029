"""Images among a model's samples."""

from pixelserve.imaging.spec import PictureSpec
from pixelserve.imaging.thumbnail import thumbnail
from pixelserve.imaging.values import shown_levels

from ..runtime import Array
from .evaluate import PictureOf


def pictures_in(inputs: Array, spec: PictureSpec | None) -> PictureOf:
    """Returns a function that encodes samples as images.

    Args:
        inputs: the model's inputs, samples along the first axis.
        spec: the model's image preprocessing, or None if it accepts no images.
    """

    def picture_of(index: int) -> str | None:
        levels = None if spec is None else shown_levels(inputs[index], spec)
        return None if levels is None or len(levels) != 1 else thumbnail(levels[0])

    return picture_of
