"""Encoded files and raw pixels to a Pillow image. What is too large or no picture is refused before it is decoded."""

import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import ImageError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF")
_MODE_BY_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}


def decode_file(data: bytes, max_pixels: int, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Decodes an encoded picture: its first frame, upright (EXIF orientation applied).

    Args:
        data: the file's bytes.
        max_pixels: most pixels, width × height; checked on the header alone.
        formats: Pillow's names of the formats that are taken.

    Raises:
        ImageError: it is no picture of these formats, too large, or damaged.
    """
    try:
        image = _open(data, formats)
        _check_size(image.width, image.height, max_pixels)
        image.load()
        return ImageOps.exif_transpose(image)
    except ImageError:
        raise
    # Pillow's decoders raise half a dozen kinds for damaged data, SyntaxError and struct.error among them.
    except Exception as error:
        raise ImageError(f"the picture is damaged ({_reason(error)}); send the whole file") from error


def _open(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Our own limit is checked next, and stricter.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError as error:
        raise ImageError("the picture has far too many pixels; send a smaller one") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{len(data)} bytes are no picture that is taken here; expected one of {', '.join(formats)}, whole"
        ) from error


def decode_raw(data: bytes, height: int, width: int, channels: int, max_pixels: int) -> Image.Image:
    """Returns raw pixels, uint8 [height, width, channels], as an image.

    Raises:
        ImageError: the size is none, too large, or not that of the data.
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
