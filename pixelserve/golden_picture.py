"""golden-picture.npz beside a version's card: a picture's file, and its tensor at export.

`pixelserve.imaging.golden` creates and replays it; reading it does not require Pillow.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import ArraysError, read_arrays
from .card import CardError

GOLDEN_PICTURE_BYTES = 8 << 20
"""Maximum total bytes of the picture's file and its tensor, unpacked."""
REMEDY = "export the model again, or remove the file"
"""The remedy if it is damaged."""


@dataclass(frozen=True)
class GoldenPicture:
    """A picture's file with its tensor."""

    file: bytes
    """An encoded picture."""
    tensor: npt.NDArray[Any]
    """The model's input for it, of the declared shape and type."""


def write_golden_picture(path: Path, golden: GoldenPicture) -> None:
    """Writes a golden picture: a compressed npz of `picture`, the file's bytes, and `tensor`."""
    np.savez_compressed(path, picture=np.frombuffer(golden.file, np.uint8), tensor=golden.tensor)


def read_golden_picture(path: Path) -> GoldenPicture:
    """Reads a golden picture.

    Raises:
        CardError: the file is damaged, larger than `GOLDEN_PICTURE_BYTES`, or has other arrays.
        OSError: it cannot be read.
    """
    try:
        arrays = read_arrays(path, GOLDEN_PICTURE_BYTES)
    except ArraysError as error:
        raise CardError(f"{path}: cannot be read as a golden picture: {error}; {REMEDY}") from error
    file, tensor = arrays.get("picture"), arrays.get("tensor")
    if len(arrays) != 2 or file is None or tensor is None or file.dtype != np.uint8 or tensor.dtype.kind not in "uf":
        raise CardError(f"{path}: expected the arrays picture, bytes, and tensor, numbers; {REMEDY}")
    return GoldenPicture(file.tobytes(), tensor)
