"""Saves pictures as a model saw them, with occlusion maps."""

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from .exits import CommandError, Exit

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pixelserve.client import Prediction

# Minimum pixels per side of a picture with a map.
_LEAST_SIDE = 224
_OPACITY = 0.7
_COLOUR_TYPES = {1: 0, 3: 2}


class SeenFolder:
    """A folder of PNG files, numbered like the predictions."""

    def __init__(self, folder: Path) -> None:
        """Creates the folder.

        Raises:
            CommandError: it cannot be created.
        """
        self._folder = folder
        self._count = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_write(folder, error) from error

    def add(self, prediction: "Prediction") -> None:
        """Saves a prediction's picture as the model saw it, with its occlusion map, if it has them.

        Raises:
            CommandError: a file cannot be written.
        """
        self._count += 1
        name = f"{self._count:05d}-{Path(prediction.source or '').stem}"
        if prediction.seen is None:
            return
        self._write(f"{name}.png", prediction.seen)
        if prediction.occlusion is not None:
            self._write(f"{name}-occlusion.png", over(prediction.seen, prediction.occlusion))

    def _write(self, name: str, levels: "npt.NDArray[np.uint8]") -> None:
        path = self._folder / name
        try:
            path.write_bytes(png(levels))
        except OSError as error:
            raise _cannot_write(path, error) from error


def png(levels: "npt.NDArray[np.uint8]") -> bytes:
    """Returns a PNG file of uint8 [height, width, 1 or 3]. The base installation has no Pillow."""
    height, width, channels = levels.shape
    # Each row starts with its filter type: none.
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    header = struct.pack(">2I5B", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def over(levels: "npt.NDArray[np.uint8]", occlusion: "npt.NDArray[np.float32]") -> "npt.NDArray[np.uint8]":
    """Returns a picture, enlarged if it is small, with an occlusion map drawn over it.

    Args:
        levels: uint8 [height, width, 1 or 3].
        occlusion: [row, column]; cells above 0 become red, below 0 blue, stronger with distance from 0.

    Returns:
        uint8 [height, width, 3].
    """
    import numpy as np

    factor = -(-_LEAST_SIDE // max(min(levels.shape[:2]), 1))
    grown = levels.repeat(factor, axis=0).repeat(factor, axis=1).astype(np.float32)
    cells = len(occlusion)
    # The server's cell borders: height * row // cells.
    rows, columns = (
        np.searchsorted([side * cell // cells * factor for cell in range(1, cells)], np.arange(side * factor), "right")
        for side in levels.shape[:2]
    )
    known = np.nan_to_num(occlusion, posinf=0, neginf=0)
    share = known / (float(np.abs(known).max()) or 1.0)
    alpha = share[rows[:, None], columns][..., None]
    colour = np.where(alpha > 0, (255, 0, 0), (0, 0, 255))
    opacity = _OPACITY * np.abs(alpha)
    drawn: npt.NDArray[np.float32] = grown * (1 - opacity) + colour * opacity
    return drawn.round().astype(np.uint8)


def _cannot_write(path: Path, error: OSError) -> CommandError:
    return CommandError(
        f"{path} cannot be written: {error.strerror}; choose a folder that you can write to", Exit.USAGE
    )
