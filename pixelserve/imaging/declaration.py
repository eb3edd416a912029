"""Parses the line that declares a model's pictures, and checks it against the model's input."""

import re
from dataclasses import dataclass

import numpy as np

from .spec import Colour, Normalisation, PictureSpec
from .words import COLOURS, SCALES, USUAL_SIDE, DeclarationError, Layout, Words

PICTURE = "picture"
"""The parameter's key in config.pbtxt."""

_BACKGROUNDS: dict[str, Colour | None] = {"border": None, "black": (0, 0, 0), "white": (255, 255, 255)}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
# Far beyond any use; larger numbers become infinities and NaN in float32.
_MOST_NUMBER = 1_000_000
_LEAST_STD = 1e-6
_SCALING = ("scale", "mean", "std")
_FLOATS = ("float16", "float32", "float64")
_MOST_SIDE = 4096
_LEAST_MNIST_SIDE = 8


@dataclass(frozen=True)
class Input:
    """A model's input."""

    dims: tuple[int, ...]
    """The shape without the batch dimension; below 0: free."""
    dtype: str
    """NumPy's name of the type."""

    @property
    def is_of_bytes(self) -> bool:
        """Whether the type is uint8."""
        return self.dtype == "uint8"


def parse(line: str, taken: Input) -> PictureSpec:
    """Parses a line that declares a model's pictures.

    Args:
        line: a preset, words of the form key=value, or both.
        taken: the model's input.

    Raises:
        DeclarationError: a word is unknown, words contradict each other, or the line does not fit the input.
    """
    words = Words(line)
    layout, channels, sides = _arrangement(words, taken)
    height, width = _size(words, sides)
    spec = PictureSpec(
        height,
        width,
        channels,
        inversion=words.one_of("inversion", "never"),
        fit=words.one_of("fit", "letterbox"),
        resampling=words.one_of("resampling", "bilinear"),
        antialias=words.one_of("antialias", "yes") == "yes",
        resize=_resize(words, height, width),
        background=words.read("background", _background, None),
        layout=layout,
        is_bgr=words.get("colour") == "bgr",
        dtype=np.dtype(taken.dtype),
        normalisation=_normalisation(words, channels, taken),
    )
    _check(spec, words, taken)
    return spec


def undeclared(taken: Input) -> PictureSpec | None:
    """Returns the pictures of an undeclared input, uint8 [height, width, 1 or 3], or None for other inputs."""
    if not taken.is_of_bytes or len(taken.dims) != 3 or min(taken.dims) < 1:
        return None
    height, width, channels = taken.dims
    return PictureSpec(height, width, channels) if channels in (1, 3) else None


def _arrangement(words: Words, taken: Input) -> tuple[Layout, int, tuple[int, int]]:
    """Returns the input's layout, number of channels, and sides."""
    if len(taken.dims) != 3:
        raise DeclarationError(
            f"the model's input has the dimensions {list(taken.dims)} besides the batch; pictures have three: height, "
            f"width and channels, in any order"
        )
    fitting = [layout for layout, at in (("nhwc", 2), ("nchw", 0)) if taken.dims[at] in (1, 3)]
    if not fitting:
        raise DeclarationError(f"the model's input is {list(taken.dims)}; pictures have 1 or 3 channels, first or last")
    if len(fitting) > 1 and not words.has("layout"):
        raise DeclarationError(
            f"the model's input is {list(taken.dims)}, whose channels may be first or last: write layout=nchw or "
            f"layout=nhwc"
        )
    layout = words.one_of("layout", fitting[0])
    if layout not in fitting:
        raise DeclarationError(
            f"layout={layout}: the model's input is {list(taken.dims)}, which is {fitting[0]}",
            words.with_("layout", fitting[0]),
        )
    channels = taken.dims[2 if layout == "nhwc" else 0]
    colour = words.one_of("colour", "grey" if channels == 1 else "rgb")
    if COLOURS[colour] != channels:
        raise DeclarationError(
            f"colour={colour}: the model's input has {channels} channels",
            words.with_("colour", "grey" if channels == 1 else "rgb"),
        )
    sides = taken.dims[:2] if layout == "nhwc" else taken.dims[1:]
    return layout, channels, (sides[0], sides[1])


def _size(words: Words, sides: tuple[int, int]) -> tuple[int, int]:
    asked = words.read("size", _sides, None)
    if asked is not None and any(side > 0 and side != other for side, other in zip(sides, asked, strict=True)):
        raise DeclarationError(
            f"size={words.get('size')}: the model's input is {sides[0]} × {sides[1]} pixels (height × width)",
            words.with_("size", None),
        )
    if min(sides) > 0:
        return sides
    size = asked or words.usual_size
    if size is None:
        raise DeclarationError(
            "the model accepts pictures of any size; set the size to resize them to",
            words.with_("size", str(USUAL_SIDE)),
        )
    height, width = (side if side > 0 else other for side, other in zip(sides, size, strict=True))
    return height, width


def _sides(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    sides = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not all(1 <= side <= _MOST_SIDE for side in sides):
        raise ValueError(f"pixels, such as 224, or height and width, such as 180x240; at most {_MOST_SIDE:,} a side")
    return sides


def _resize(words: Words, height: int, width: int) -> int | None:
    side = min(height, width)
    if height != width and not words.is_written("resize"):
        return None

    def pixels(text: str) -> int:
        if text == "8/7":
            return round(side * 8 / 7)
        if not re.fullmatch(r"\d{1,5}", text) or not side <= int(text) <= 2 * _MOST_SIDE:
            raise ValueError(f"{side} (the crop's shorter side) or more pixels, at most {2 * _MOST_SIDE:,}, or 8/7")
        return int(text)

    resize: int | None = words.read("resize", pixels, None)
    return resize


def _background(text: str) -> Colour | None:
    if text in _BACKGROUNDS:
        return _BACKGROUNDS[text]
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ValueError("border, black, white, or red, green and blue, such as #808080")
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def _normalisation(words: Words, channels: int, taken: Input) -> Normalisation | None:
    if taken.is_of_bytes and not any(map(words.is_written, _SCALING)):
        # The model scales pixels itself, even if the preset has a scale.
        return None
    if not words.has("mean") and not words.has("std"):
        found = SCALES[words.one_of("scale", "0..255")]
        if found is not None and len(found[0]) not in (1, channels):
            raise DeclarationError("scale=imagenet needs three channels", words.with_("scale", "0..1"))
        return None if found is None else Normalisation(*found)
    if words.has("scale"):
        raise DeclarationError("scale excludes mean and std: write either", words.with_("scale", None))

    def numbers(text: str) -> tuple[float, ...]:
        found = [_NUMBER.fullmatch(each) for each in text.split(",")]
        values = tuple(float(each[0]) for each in found if each)
        if len(values) not in (1, channels) or len(found) != len(values) or max(map(abs, values)) > _MOST_NUMBER:
            count = "one number" if channels == 1 else "one number or three"
            raise ValueError(f"{count} for levels of 0 to 1, at most {_MOST_NUMBER:,}")
        return values

    def above_zero(text: str) -> tuple[float, ...]:
        if min(numbers(text)) < _LEAST_STD:
            raise ValueError(f"numbers above 0, at least {_LEAST_STD}")
        return numbers(text)

    return Normalisation(words.read("mean", numbers, (0.0,)), words.read("std", above_zero, (1.0,)))


def _check(spec: PictureSpec, words: Words, taken: Input) -> None:
    """Rejects words that contradict each other or the input."""
    if taken.is_of_bytes and spec.normalisation is not None:
        key = next(filter(words.has, _SCALING))
        raise DeclarationError(
            f"{key}={words.get(key)}: the model's input is uint8, so it scales levels of 0 to 255 itself",
            words.with_("scale", "0..255"),
        )
    if not taken.is_of_bytes and taken.dtype not in _FLOATS:
        raise DeclarationError(f"the model's input is {taken.dtype}; pictures are uint8, {', '.join(_FLOATS)}")
    if not taken.is_of_bytes and not any(map(words.has, _SCALING)):
        raise DeclarationError(
            f"the model's input is {taken.dtype}; set the scaling of its training: scale={', scale='.join(SCALES)}, or "
            f"mean=… std=…",
            words.with_("scale", "0..1"),
        )
    for key, needs, holds in (
        ("resize", "fit=crop", spec.fit == "crop"),
        ("background", "fit=letterbox", spec.fit == "letterbox"),
        ("antialias", "resampling=bilinear", spec.resampling == "bilinear"),
    ):
        if words.has(key) and not holds:
            raise DeclarationError(f"{key}={words.get(key)} needs {needs}", words.with_(key, None))
    if spec.fit == "mnist" and (spec.channels != 1 or min(spec.height, spec.width) < _LEAST_MNIST_SIDE):
        raise DeclarationError(
            f"fit=mnist: the model's input is {spec.height} × {spec.width} × {spec.channels}; fit=mnist needs "
            f"one channel and at least {_LEAST_MNIST_SIDE} pixels per side",
            words.with_("fit", "letterbox"),
        )
    if spec.resize is not None and spec.height != spec.width:
        raise DeclarationError(
            f"resize={words.get('resize')}: the model's pictures are {spec.height} × {spec.width}; resize needs "
            f"square ones",
            words.with_("resize", None),
        )
