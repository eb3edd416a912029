"""Turns picture files into the pixels that a network learns from, exactly as the server turns them into its inputs.

docs/pictures.md states the rules; nothing is inverted here. Training may not import the server, so the two are held
together by a test that compares their arrays.
"""

import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import DataError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF")
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
MAX_PIXELS = 50_000_000

Shape = tuple[int, int, int]
Pixels = npt.NDArray[np.uint8]

_WHITE = (255, 255, 255, 255)


def read(content: bytes, shape: Shape) -> Pixels:
    """Returns an encoded picture as a network takes it.

    Args:
        content: the file's bytes.
        shape: height, width and channels; 1: grey, 3: red, green, blue.

    Returns:
        uint8 [height, width, channels].

    Raises:
        DataError: it is no picture, has more than 50 million pixels, or is damaged; the message says which.
    """
    height, width, channels = shape
    flat = _on_white(_decode(content)).convert("L" if channels == 1 else "RGB")
    return np.asarray(_fitted(flat, width, height), np.uint8).reshape(shape)


def _decode(content: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Its limit is higher than the one that is checked here.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height <= MAX_PIXELS:
            image.load()
            return ImageOps.exif_transpose(image)
    except Image.DecompressionBombError as error:
        raise DataError(f"more than {MAX_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise DataError(f"no picture: expected one of {', '.join(FORMATS)}, whole") from error
    # Pillow's decoders raise half a dozen kinds for damaged data, SyntaxError and struct.error among them.
    except Exception as error:
        raise DataError(f"damaged: {str(error).strip().partition(chr(10))[0] or type(error).__name__}") from error
    raise DataError(f"{image.width} × {image.height} = {image.width * image.height:,} pixels, more than {MAX_PIXELS:,}")


def _on_white(image: Image.Image) -> Image.Image:
    """Returns the image with 8 bits a channel, and what is transparent in it shown on white."""
    if image.mode.startswith("I") or image.mode == "F":
        # The upper 8 of 16 bits; Pillow would cut everything above 255.
        return Image.fromarray((np.clip(np.asarray(image), 0, 65535).astype(np.uint32) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, _WHITE), rgba).convert("RGB")
    return image


def _fitted(image: Image.Image, width: int, height: int) -> Image.Image:
    """Returns the image at this size: whole, undistorted, centred, the rest filled with the median of its border."""
    if image.size == (width, height):
        return image
    scale = min(width / image.width, height / image.height)
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    resized = image.resize(size, Image.Resampling.BILINEAR)
    if size == (width, height):
        return resized
    pixels = np.atleast_3d(np.asarray(image))
    border = np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]), axis=0)
    canvas = Image.new(image.mode, (width, height), tuple(int(value) for value in border))
    canvas.paste(resized, ((width - size[0]) // 2, (height - size[1]) // 2))
    return canvas
