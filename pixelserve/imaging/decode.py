"""Decodes files and raw pixels to Pillow images. Sizes and memory are known before decoding."""

import functools
import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image, UnidentifiedImageError

from . import avif, gif, jpeg, kinds, png, shown, tiff, upright
from .errors import ImageError
from .formats import FORMATS
from .prepare import preparing_bytes
from .spec import PictureSpec
from .words import Inversion

MAX_PIXELS = 50_000_000
"""Maximum pixels, width × height, of a picture in training; the server's default."""

_MODE_BY_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}
# Unpacked in Python, so it holds the GIL.
_MAX_RUN_LENGTH_PIXELS = 4_000_000
# libwebp composes frames on two canvases of 4 bytes per pixel, and passes the first one's bytes to Pillow.
_WEBP_BYTES = 12
# Memory of any picture besides its pixels: decoders' code and tables, and the parts being processed.
_FIXED_BYTES = 4 * 1024 * 1024
_ROW_BYTES = 32

_PILLOW = "PIL"
# In the warnings module's form.
_IGNORED = ("ignore", None, Warning, re.compile(_PILLOW), 0)


class Picture:
    """An opened picture, not decoded yet. Not thread-safe."""

    def __init__(self, width: int, height: int) -> None:
        self.size = width, height
        """Width and height, before EXIF rotation."""

    @property
    def pixels(self) -> int:
        """Width × height."""
        return self.size[0] * self.size[1]

    @property
    def cost(self) -> int:
        """The decoding cost, in pixels of an ordinary picture that takes as long."""
        return self.pixels

    def bytes_needed(self, spec: PictureSpec, inversion: Inversion | None = None) -> int:
        """Returns the maximum memory of `decode` followed by `prepare` with these arguments."""
        raise NotImplementedError

    def decode(self) -> Image.Image:
        """Decodes the first frame or page as other programs show it: upright, 8 bits per channel. May be called once.

        Returns:
            An image of mode L, LA, RGB or RGBA.

        Raises:
            ImageError: it is damaged.
        """
        raise NotImplementedError


def decode_file(data: bytes, max_pixels: int) -> Image.Image:
    """Decodes an encoded picture: `open_file`, then `Picture.decode`."""
    return open_file(data, max_pixels).decode()


def decode_raw(data: bytes, height: int, width: int, channels: int, max_pixels: int) -> Image.Image:
    """Returns raw pixels as an image: `open_raw`, then `Picture.decode`."""
    return open_raw(data, height, width, channels, max_pixels).decode()


def open_file(data: bytes, max_pixels: int) -> Picture:
    """Reads an encoded picture's header, without decoding.

    Args:
        data: the file's bytes.
        max_pixels: maximum pixels, width × height.

    Raises:
        ImageError: it is not in a supported format, too large, or damaged.
    """
    _silence_libraries()
    with _as_image_errors():
        return _File(data, max_pixels)


def open_raw(data: bytes, height: int, width: int, channels: int, max_pixels: int) -> Picture:
    """Opens raw pixels, uint8 [height, width, channels].

    Raises:
        ImageError: the size is invalid, too large, or does not match the data.
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
    return _Raw(data, mode, width, height)


class _Raw(Picture):
    def __init__(self, data: bytes, mode: str, width: int, height: int) -> None:
        super().__init__(width, height)
        self._data, self._mode = data, mode

    def bytes_needed(self, spec: PictureSpec, inversion: Inversion | None = None) -> int:
        return preparing_bytes(self.size, shown.pixel_bytes(self._mode), spec, inversion) + _FIXED_BYTES

    def decode(self) -> Image.Image:
        return Image.frombytes(self._mode, self.size, self._data)


class _File(Picture):
    def __init__(self, data: bytes, max_pixels: int) -> None:
        readable, exif, xmp, scans = _read(data)
        self._image: Any = _open(readable, data)
        super().__init__(*self._image.size)
        _check_size(*self.size, max_pixels)
        shown.check(self._image)
        # All that Pillow is asked about the file is asked here: its answers to damaged ones are exceptions.
        self._pixel_bytes = shown.pixel_bytes(self._image.mode)
        self._shown_bytes = shown.shown_bytes(self._image)
        self._is_turned_by_pillow = self._image.format == "TIFF" and tiff.is_turned(self._image)
        # Memory besides the picture during decoding: the decoder, some rows, and the file if it is a copy.
        self._decoder_bytes = _decoder_bytes(self._image, data, scans) + _ROW_BYTES * self.size[0]
        self._decoder_bytes += 0 if readable is data else len(readable)
        # Only the orientation of these is used; dropping them frees their memory.
        info = self._image.info
        self._turned = upright.orientation(exif or info.pop("exif", b""), xmp or info.pop("xmp", b""))
        # Only the header's contents are needed, which these cover for PNG.
        self._header = data[:32]
        self._scans = scans.scans if scans is not None else 1

    @property
    def cost(self) -> int:
        return self.pixels * (3 + self._scans) // 4

    def bytes_needed(self, spec: PictureSpec, inversion: Inversion | None = None) -> int:
        pixel, (converting, result) = self._pixel_bytes, self._shown_bytes
        turning = result if self._turned in upright.METHODS else 0
        decoding = self.pixels * (2 * pixel if self._is_turned_by_pillow else pixel)
        size = self.size[::-1] if self._turned in upright.SIDEWAYS else self.size
        return _FIXED_BYTES + max(
            decoding + self._decoder_bytes,
            self.pixels * (pixel + converting) + self._decoder_bytes,
            self.pixels * (result + turning),
            preparing_bytes(size, result, spec, inversion),
        )

    def decode(self) -> Image.Image:
        # Not kept, because the result is another picture.
        image, self._image = self._image, None
        with _as_image_errors():
            extents = image.tile[0][1] if image.tile else None
            image.load()
            plain: Any = shown.as_shown(image, self._header, extents)
            if plain is image:
                # Without its decoder, which may hold up to three pictures' memory, and without the file.
                plain = plain._new(plain.im)
            del image
            method = upright.METHODS.get(self._turned)
            upright_one: Image.Image = plain if method is None else plain.transpose(method)
            return upright_one


def _read(data: bytes) -> tuple[bytes, bytes, bytes, jpeg.Plain | None]:
    """Returns the bytes for Pillow, the EXIF data and XMP packet removed from them, and a JPEG's scans."""
    if data.startswith(png.SIGNATURE):
        return *png.without_metadata(data), b"", None
    if data.startswith(jpeg.SIGNATURE):
        plain = jpeg.without_metadata(data)
        return plain.data, plain.exif, plain.xmp, plain
    if data.startswith(gif.SIGNATURES):
        gif.check(data)
    avif.check_metadata(data)
    return tiff.first_page(avif.first_picture(data)), b"", b"", None


def _open(readable: bytes, data: bytes) -> Any:
    try:
        return Image.open(io.BytesIO(readable), formats=[each.pillow for each in FORMATS])
    except Image.DecompressionBombError as error:
        raise ImageError("the picture has too many pixels; send a smaller one") from error
    except UnidentifiedImageError as error:
        raise ImageError(kinds.explain(data)) from error


def _decoder_bytes(image: Any, data: bytes, scans: jpeg.Plain | None) -> int:
    """Checks an opened file for what Pillow does not; returns the decoder's memory besides the picture."""
    pixels, channels = int(image.width * image.height), len(image.getbands())
    match image.format:
        case "JPEG" | "MPO":
            return jpeg.decoder_bytes(image, scans)
        case "WEBP":
            # Pillow copies the file twice.
            return _WEBP_BYTES * pixels + 2 * len(data)
        case "TIFF":
            tiff.check(image)
            return tiff.decoder_bytes(image) + len(data)
        case "AVIF":
            # Frames are held at most twice, and converted to the picture's bytes in two copies.
            rows = channels + max(channels - shown.pixel_bytes(image.mode), 0)
            return 2 * avif.check(data, pixels) + rows * pixels
        case "BMP" if image.tile and image.tile[0][0] == "bmp_rle":
            _check_run_length(pixels)
            return 2 * pixels
    return 0


def _check_run_length(pixels: int) -> None:
    if pixels > _MAX_RUN_LENGTH_PIXELS:
        raise ImageError(
            f"the picture is a run-length encoded BMP of {pixels:,} pixels; at most {_MAX_RUN_LENGTH_PIXELS:,} "
            f"are accepted; send it as PNG"
        )


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            f"the picture is {width} × {height} = {width * height:,} pixels; at most {max_pixels:,} are accepted: "
            f"send a smaller one"
        )


@functools.cache
def _silence_libraries() -> None:
    """Keeps libraries' messages about bad files off stderr, which is the server's log; errors contain them."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    tiff.silence_libtiff()


def _silence_pillow() -> None:
    """Ignores Pillow's warnings about repaired files, and about sizes above its own, less strict limit.

    Permanently, because filters belong to the process: with warnings.catch_warnings, one thread would remove the filter
    of another.
    """
    if warnings.filters[:1] != [_IGNORED]:
        warnings.filterwarnings("ignore", module=_PILLOW)


@contextmanager
def _as_image_errors() -> Iterator[None]:
    try:
        _silence_pillow()
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("not enough memory for the picture; send a smaller one") from error
    # Pillow's decoders raise half a dozen kinds for damaged data, SyntaxError and struct.error among them.
    except Exception as error:
        raise ImageError(f"the picture is damaged ({_reason(error)}); send the whole file") from error


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
