"""What counts as a picture, and how each kind is sent.

| kind | sent as |
|---|---|
| path | the file's bytes, undecoded |
| bytes | the same: they are an encoded file |
| NumPy array, uint8, [H, W] or [H, W, 1, 3 or 4] | raw pixels |
| PIL image, mode L, RGB or RGBA | raw pixels: exact, and compressing takes longer than a network does |
| PIL image, another mode | a PNG file (CMYK and the like: RGB pixels), so that the server's rules for colours hold |

The server decodes; see docs/pictures.md for what it does. Neither NumPy nor PIL is imported for that: who passes such
an object has imported its library.
"""

import io
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

from pixelserve.v1 import classifier_pb2 as pb

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

    Picture: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | npt.NDArray[np.uint8] | Image.Image
else:
    # Naming them all would import them.
    Picture = Any

_CHANNELS = (1, 3, 4)
_CHANNELS_BY_MODE = {"L": 1, "RGB": 3, "RGBA": 4}
# Modes of Pillow that a PNG file can hold as they are.
_PNG_MODES = ("1", "LA", "P", "I;16")
# On its fastest level zlib takes a third of its usual time, and the file is a tenth larger.
_PNG_LEVEL = 1


@dataclass(frozen=True)
class Loaded:
    """A picture that is ready to be sent, or cannot be."""

    image: pb.Image | None
    """What is sent; None: there is an error."""
    error: str = ""
    """Why it cannot be sent."""
    source: str | None = None
    """Its path as it was given; None where it did not come from a file."""


def is_picture(thing: object) -> TypeGuard[Picture]:
    """Tells one picture from a sequence of them."""
    return isinstance(thing, str | os.PathLike | bytes | bytearray | memoryview) or _is_array(thing) or _is_pil(thing)


def takes_long(picture: object) -> bool:
    """Tells whether loading a picture reads a file or compresses one, which an event loop should not wait for."""
    return isinstance(picture, str | os.PathLike) or _is_pil(picture)


def load(picture: Picture) -> Loaded:
    """Returns a picture as it is sent. A file that cannot be read is that picture's error.

    Raises:
        TypeError: it is no picture, or an array of something else than uint8.
        ValueError: an array's or a PIL image's shape is not that of one picture.
    """
    if isinstance(picture, str | os.PathLike):
        return _load_file(os.fspath(picture))
    if isinstance(picture, bytes | bytearray | memoryview):
        return Loaded(pb.Image(encoded=bytes(picture)))
    if _is_array(picture):
        return Loaded(_from_array(picture))
    if _is_pil(picture):
        return Loaded(_from_pil(picture))
    raise TypeError(
        f"a picture is a path, the bytes of an image file, a PIL image or a NumPy array, and not {_type_name(picture)}"
    )


def _load_file(path: str) -> Loaded:
    try:
        # Unbuffered: one read, straight into the bytes that are sent.
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  (a Path object costs more than the rest)
            return Loaded(pb.Image(encoded=file.readall()), source=path)
    except (OSError, ValueError) as error:
        # ValueError: a NUL in the path.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        remedy = "; check its permissions" if isinstance(error, PermissionError) else ""
        return Loaded(None, f"the file cannot be read: {reason}{remedy}", path)


def _from_array(array: "npt.NDArray[Any]") -> pb.Image:
    if array.dtype != "uint8":
        raise TypeError(
            f"a picture's array must be of uint8, 0 to 255, and is of {array.dtype}; "
            f"convert it, for pixels from 0 to 1 with: (array * 255).round().astype('uint8')"
        )
    is_one = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS)
    if not is_one or not array.size:
        raise ValueError(
            f"a picture's array must be [height, width] or [height, width, 1, 3 or 4], and is {list(array.shape)}; "
            f"for several pictures pass a list of them: list(array)"
        )
    channels = array.shape[2] if array.ndim == 3 else 1
    return _raw(array.shape[0], array.shape[1], channels, array.tobytes())


def _from_pil(image: "Image.Image") -> pb.Image:
    from PIL import ImageOps

    # Raw pixels carry no EXIF: a photograph is turned here as the server would turn its file.
    upright = ImageOps.exif_transpose(image)
    if upright.mode in _PNG_MODES:
        file = io.BytesIO()
        upright.save(file, "PNG", compress_level=_PNG_LEVEL)
        return pb.Image(encoded=file.getvalue())
    if upright.mode in ("F", "I"):
        raise ValueError(
            f"a PIL image of mode {upright.mode} has no agreed range; scale it to 0 to 255 and convert it with: "
            f"image.convert('L')"
        )
    if upright.mode not in _CHANNELS_BY_MODE:
        upright = upright.convert("RGBA" if upright.mode.upper().endswith("A") else "RGB")
    return _raw(upright.height, upright.width, _CHANNELS_BY_MODE[upright.mode], upright.tobytes())


def _raw(height: int, width: int, channels: int, data: bytes) -> pb.Image:
    return pb.Image(raw=pb.RawPixels(height=height, width=width, channels=channels, data=data))


def _is_array(thing: object) -> "TypeGuard[npt.NDArray[Any]]":
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(thing, numpy.ndarray)


def _is_pil(thing: object) -> "TypeGuard[Image.Image]":
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(thing, pil.Image)


def _type_name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}".removeprefix("builtins.")
