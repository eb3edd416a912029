"""A model's pictures, and the line that declares them: the parameter `picture` of config.pbtxt.

    imagenet fit=stretch scale=-1..1

A preset may come first; words after it override the preset. docs/pictures.md explains every word.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .words import Fit, Inversion, Layout, Resampling

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Normalisation:
    """The affine map from pixel levels to a float model's numbers, as in torchvision's Normalize.

    value = (level / 255 - mean) / std
    """

    mean: tuple[float, ...] = (0.0,)
    """Per channel, or one for all; levels are divided by 255 first."""
    std: tuple[float, ...] = (1.0,)
    """Per channel, or one for all."""


@dataclass(frozen=True)
class PictureSpec:
    """A model's pictures."""

    height: int
    """Pixels from top to bottom."""
    width: int
    """Pixels from left to right."""
    channels: int
    """1: grey; 3: red, green, blue."""
    inversion: Inversion = "never"
    """Whether to invert dark drawings on a light background."""
    fit: Fit = "letterbox"
    """How pictures are fitted to the model's size."""
    resampling: Resampling = "bilinear"
    """The filter, by Pillow's names (area: BOX)."""
    antialias: bool = True
    """Whether the filter widens when reducing, like Pillow's; False: it reads four pixels, like Keras's."""
    resize: int | None = None
    """Pixels of the shorter side before the centre crop; None: the crop's size."""
    background: Colour | None = None
    """The letterbox's fill colour: red, green, blue; None: the median of the picture's border."""
    layout: Layout = "nhwc"
    """The order of the axes."""
    is_bgr: bool = False
    """Whether the channel order is blue, green, red."""
    dtype: np.dtype[Any] = np.dtype(np.uint8)  # noqa: RUF009  immutable
    """The numbers' type."""
    normalisation: Normalisation | None = None
    """How levels of 0 to 255 become numbers; None: unchanged."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one picture, in the model's layout."""
        if self.layout == "nhwc":
            return self.height, self.width, self.channels
        return self.channels, self.height, self.width

    @property
    def nbytes(self) -> int:
        """Bytes of one picture."""
        return self.height * self.width * self.channels * self.dtype.itemsize

    def __str__(self) -> str:
        """Returns the complete declaring line."""
        colour = "grey" if self.channels == 1 else "bgr" if self.is_bgr else "rgb"
        words = {
            "colour": colour,
            "layout": self.layout,
            "size": f"{self.height}x{self.width}",
            "fit": self.fit,
            "resize": self.resize,
            "resampling": self.resampling,
            "antialias": None if self.antialias else "no",
            "background": None if self.background is None else "#{:02x}{:02x}{:02x}".format(*self.background),
            # A float model's line must include its scale.
            "scale": "0..255" if self.normalisation is None and self.dtype != np.uint8 else None,
            "mean": self.normalisation and _numbers(self.normalisation.mean),
            "std": self.normalisation and _numbers(self.normalisation.std),
            "inversion": None if self.inversion == "never" else self.inversion,
        }
        return " ".join(f"{key}={value}" for key, value in words.items() if value is not None)


def _numbers(values: tuple[float, ...]) -> str:
    # The shortest text that parses as the same number.
    return ",".join(str(value).removesuffix(".0") for value in values)
