"""Makes pictures small enough for a card."""

import base64
import io
from typing import Any

import numpy.typing as npt
from PIL import Image

SIDE = 32
"""Maximum pixels per side."""
# For reduced photos, whose edges matter more than a sixth of the bytes.
_QUALITY = 85


def thumbnail(levels: npt.NDArray[Any]) -> str:
    """Returns a picture as PNG or JPEG, the smaller of the two, in base64.

    A digit is smaller as PNG, which is lossless; a photo is a third of the size as JPEG.

    Args:
        levels: uint8 [height, width, 1 or 3], grey or red, green, blue.
    """
    image = Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)
    image.thumbnail((SIDE, SIDE))
    return base64.b64encode(min(_encoded(image, "PNG"), _encoded(image, "JPEG"), key=len)).decode()


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True, quality=_QUALITY)
    return buffer.getvalue()
