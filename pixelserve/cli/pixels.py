"""Parses the values of `pixelserve export --pixel-scale` and `--size`."""

import re
from dataclasses import dataclass

import typer

_NUMBER = r"\d+\.?\d*(?:e-?\d+)?"
_SCALE = re.compile(rf"(?P<over>{_NUMBER})(?:/(?P<under>{_NUMBER}))?(?P<offset>[+-]{_NUMBER})?")
_SIZE = re.compile(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4})(?:x([13]))?)?")


@dataclass(frozen=True)
class PixelScale:
    """The scaling of pixels from 0 to 255."""

    scale: float | None
    """The factor; None: no scaling, the model's input is floats."""
    offset: float = 0.0
    """The offset, added after that."""


def number(text: str) -> float:
    """Parses a number above 0, which may be a fraction such as 1/255.

    Raises:
        BadParameter: it is not a number above 0.
    """
    found = _SCALE.fullmatch(text)
    if found is None or found["offset"]:
        raise _refusal(text)
    return _quotient(found, text)


def pixel_scale(text: str) -> PixelScale:
    """Parses a factor with an optional offset, such as 1/255 or 1/127.5-1, or none.

    Raises:
        BadParameter: it is invalid.
    """
    if text == "none":
        return PixelScale(None)
    found = _SCALE.fullmatch(text)
    if found is None:
        raise _refusal(text)
    return PixelScale(_quotient(found, text), float(found["offset"] or 0))


def size(text: str) -> tuple[int, ...]:
    """Parses height and width, and optional channels: 224, 180x240, 28x28x1.

    Raises:
        BadParameter: it is not a size.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise typer.BadParameter(
            f"{text!r}: expected HEIGHTxWIDTH such as 180x240, one number for both, or HEIGHTxWIDTHxCHANNELS such as "
            f"28x28x1, of 1 or 3 channels"
        )
    height, width, channels = found.groups()
    return (int(height), int(width or height), *([int(channels)] if channels else ()))


def _quotient(found: re.Match[str], text: str) -> float:
    under = float(found["under"] or 1)
    scale = float(found["over"]) / under if under else 0.0
    if not 0 < scale < float("inf"):
        raise _refusal(text)
    return scale


def _refusal(text: str) -> typer.BadParameter:
    return typer.BadParameter(
        f"{text!r}: expected a number above 0, such as 1/255; a pixel scale may have an offset, such as "
        f"1/127.5-1, or be none"
    )
