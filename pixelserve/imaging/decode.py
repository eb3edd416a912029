"""Encoded files and raw pixels to a Pillow image. Sizes are checked before anything is decoded."""

import functools
import io
import logging
import warnings
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from . import avif, kinds, png, shown, tiff
from .errors import ImageError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "AVIF")
"""Pillow's names of the formats that are read."""
MAX_PIXELS = 50_000_000
"""Most pixels, width × height, of a picture that training reads, and that a server reads unless set otherwise."""

_MODE_BY_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}


def decode_file(data: bytes, max_pixels: int) -> Image.Image:
    """Decodes an encoded picture as other programs show it: its first frame or page, upright, 8 bits a channel.

    Args:
        data: the file's bytes.
        max_pixels: most pixels, width × height; checked on the header alone.

    Returns:
        An image of mode L, LA, RGB or RGBA.

    Raises:
        ImageError: it is not a picture of the formats that are read, too large, or damaged.
    """
    _silence_libraries()
    try:
        with warnings.catch_warnings():
            # Pillow warns of what it mends in a damaged file, and of sizes above its own limit, which is less strict.
            warnings.filterwarnings("ignore", module="PIL")
            image = _open(data)
            _check(image, data, max_pixels)
            extents = image.tile[0][1] if image.tile else None
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return shown.as_shown(image, data, extents)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("the picture takes more memory than there is; send a smaller one") from error
    # Pillow's decoders raise half a dozen kinds for damaged data, SyntaxError and struct.error among them.
    except Exception as error:
        raise ImageError(f"the picture is damaged ({_reason(error)}); send the whole file") from error


@functools.cache
def _silence_libraries() -> None:
    """Keeps what libraries say of a bad file off stderr, where a server's log is; the error says it."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    tiff.silence_libtiff()


def _open(data: bytes) -> Any:
    try:
        return Image.open(io.BytesIO(avif.first_picture(png.without_metadata(data))), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError("the picture has far too many pixels; send a smaller one") from error
    except UnidentifiedImageError as error:
        raise ImageError(kinds.explain(data)) from error


def _check(image: Any, data: bytes, max_pixels: int) -> None:
    _check_size(image.width, image.height, max_pixels)
    if image.format == "TIFF":
        tiff.check(image)
    elif image.format == "AVIF":
        avif.check(data, image.width * image.height)


def decode_raw(data: bytes, height: int, width: int, channels: int, max_pixels: int) -> Image.Image:
    """Returns raw pixels, uint8 [height, width, channels], as an image.

    Raises:
        ImageError: the size is invalid, too large, or not that of the data.
    """
    mode = _MODE_BY_CHANNELS.get(channels)
    if mode is None:
        raise ImageError(f"raw pixels have {channels} channels; expected 1 (grey), 3 (RGB) or 4 (RGBA)")
    if not height or not width:
        raise ImageError(f"raw pixels are {width} × {height}; expected at least 1 × 1")
    _check_size(width, height, max_pixels)
    if len(data) != height * width * channels:
        raise ImageError(
            f"raw pixels: {width} × {height} × {channels} make {height * width * channels} bytes; {len(data)} came"
        )
    return Image.frombytes(mode, (width, height), data)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            f"the picture is {width} × {height} = {width * height:,} pixels; at most {max_pixels:,} are taken: "
            f"send a smaller one"
        )


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
