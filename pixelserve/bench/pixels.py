"""Turns picture files into a model's raw pixels, for requests that skip the server's decoding."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import WorkloadError

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def read_pixels(path: Path, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Reads a picture as uint8 [height, width, channels], resized if needed.

    Raises:
        WorkloadError: the file is not a picture.
        ModuleNotFoundError: Pillow is not installed.
    """
    from pixelserve.imaging.decode import MAX_PIXELS, decode_file
    from pixelserve.imaging.errors import ImageError

    height, width, channels = shape
    try:
        picture = decode_file(path.read_bytes(), MAX_PIXELS)
    except (ImageError, OSError) as error:
        raise WorkloadError(f"{path} cannot be read as a picture: {error}") from error
    pixels = picture.convert(_MODES[channels]).resize((width, height))
    return np.asarray(pixels, np.uint8).reshape(height, width, channels)
