"""The accepted kinds of pictures, and how each is sent.

| kind | sent as |
|---|---|
| path | the file's bytes, undecoded |
| bytes | unchanged, as an encoded file |
| NumPy array, uint8, [H, W] or [H, W, 1, 3 or 4] | raw pixels |
| PIL image, mode L, RGB or RGBA | raw pixels: exact, and faster than compressing |
| PIL image, another mode | a PNG file (CMYK and the like: RGB pixels), so the server's rules for colours apply |

The server decodes; see docs/pictures.md. Neither NumPy nor PIL is imported here: callers who pass such objects have
imported the library.
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
    # Naming all of them would import the libraries.
    Picture = Any

_CHANNELS = (1, 3, 4)
_CHANNELS_BY_MODE = {"L": 1, "RGB": 3, "RGBA": 4}
# Pillow modes that PNG stores directly.
_PNG_MODES = ("1", "LA", "P", "I;16")
# At its fastest level, zlib takes a third of the default time; the file is a tenth larger.
_PNG_LEVEL = 1


@dataclass(frozen=True)
class Loaded:
    """A picture ready to send, or its error."""

    image: pb.Image | None
    """The message to send, or None with an error."""
    error: str = ""
    """Why it cannot be sent."""
    source: str | None = None
    """The path as given, or None if it is not from a file."""


def is_picture(thing: object) -> TypeGuard[Picture]:
    """Returns whether the argument is one picture, not a sequence of pictures."""
    return isinstance(thing, str | os.PathLike | bytes | bytearray | memoryview) or _is_array(thing) or _is_pil(thing)


def takes_long(picture: object) -> bool:
    """Returns whether loading a picture reads or compresses a file, which would block an event loop."""
    return isinstance(picture, str | os.PathLike) or _is_pil(picture)


def load(picture: Picture) -> Loaded:
    """Returns a picture ready to send. An unreadable file sets the picture's error.

    Raises:
        TypeError: it is not a picture, or an array of a type other than uint8.
        ValueError: the shape of an array or PIL image is not that of one picture.
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
        f"expected a path, the bytes of an image file, a PIL image or a NumPy array; got {_type_name(picture)}"
    )


def _load_file(path: str) -> Loaded:
    try:
        # Unbuffered: one read, directly into the bytes to send.
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
            f"a picture's array must be uint8, 0 to 255; got {array.dtype};  "
            f"convert it, for pixels from 0 to 1 with: (array * 255).round().astype('uint8')"
        )
    is_one = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS)
    if not is_one or not array.size:
        raise ValueError(
            f"a picture's array must be [height, width] or [height, width, 1, 3 or 4]; got {list(array.shape)};  "
            f"for several pictures pass a list of them: list(array)"
        )
    channels = array.shape[2] if array.ndim == 3 else 1
    return _raw(array.shape[0], array.shape[1], channels, array.tobytes())


def _from_pil(image: "Image.Image") -> pb.Image:
    from PIL import ImageOps

    # Raw pixels have no EXIF data, so rotate photographs here, as the server does for files.
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
