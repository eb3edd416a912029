"""Parses the words of the line that declares a model's pictures, and suggests corrections."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Inversion = Literal["never", "always", "auto"]
Fit = Literal["letterbox", "stretch", "crop", "mnist"]
Resampling = Literal["nearest", "bilinear", "bicubic", "area"]
Layout = Literal["nhwc", "nchw"]

PRESETS = {
    "imagenet": "fit=crop resize=8/7 resampling=bilinear scale=imagenet",
    "vit": "fit=stretch resampling=bilinear scale=-1..1",
    "keras": "fit=stretch resampling=bilinear antialias=no",
    "mnist": "fit=mnist inversion=auto",
}
"""What a first word stands for. imagenet is what torchvision's classifiers were trained with (the shorter side to 256
for a crop of 224), vit what the image processors of vision transformers do, keras what Keras's loaders do."""

COLOURS = {"grey": 1, "rgb": 3, "bgr": 3}
"""Channels of each colour."""

SCALES = {
    "0..255": None,
    "0..1": ((0.0,), (1.0,)),
    "-1..1": ((0.5,), (0.5,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and standard deviation of levels of 0 to 1, by scale name; None: levels are unchanged."""


@dataclass(frozen=True)
class Word:
    """A word of the line and its values."""

    help: str
    """What it declares."""
    values: tuple[str, ...] = ()
    """The allowed values; empty: any of the form."""
    form: str = ""
    """The form of its values."""


WORDS = {
    "colour": Word("The channels; default: grey for one, rgb for three.", tuple(COLOURS)),
    "layout": Word("The order of the input's axes; default: inferred from its shape.", get_args(Layout)),
    "size": Word("Height and width, such as 224 or 180x240, for a model that accepts any size.", form="HEIGHTxWIDTH"),
    "fit": Word("How to fit pictures of another shape; default: letterbox.", get_args(Fit)),
    "resize": Word("With crop: the shorter side before the centre is cropped, or 8/7 of the size.", form="PIXELS"),
    "resampling": Word("The resizing filter; default: bilinear.", get_args(Resampling)),
    "antialias": Word("With bilinear; no: interpolate four pixels, as TensorFlow does.", ("yes", "no")),
    "background": Word("With letterbox: border (default), black, white, or a colour such as #808080.", form="COLOUR"),
    "scale": Word("The scaling that a float model was trained with.", tuple(SCALES)),
    "mean": Word("Instead of scale: for levels of 0 to 1, one number or one per channel.", form="NUMBERS"),
    "std": Word("The standard deviation that goes with mean.", form="NUMBERS"),
    "inversion": Word("Invert pictures; auto: those with a light border.", get_args(Inversion)),
}
"""The words that a line may have, and the flags of `pixelserve export`."""

USUAL_SIDE = 224
"""Pixels per side, for a preset with a model of free size."""
_USUAL_SIDES = {"mnist": 28}


class DeclarationError(Exception):
    """The line is invalid, or does not fit the model."""

    def __init__(self, problem: str, write: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        """What was expected and what was received."""
        self.write = write
        """The corrected line; None: it depends on the model's training."""


class Words:
    """The words of a line, with corrections."""

    def __init__(self, line: str) -> None:
        self._written: dict[str, str] = {}
        self._preset = ""
        for number, word in enumerate(line.split()):
            key, equals, value = word.partition("=")
            if not equals and number == 0:
                self._preset = word
                continue
            if key in self._written:
                raise DeclarationError(f"{key} is given twice; write it once")
            if not equals or key not in WORDS:
                best = _nearest(key, WORDS)
                raise DeclarationError(
                    f'"{word}" is not one of the words {", ".join(f"{known}=…" for known in WORDS)}',
                    self._line_with(number, line, f"{best}={value}" if equals else ""),
                )
            self._written[key] = value
        if self._preset and self._preset not in PRESETS:
            raise DeclarationError(
                f'unknown preset "{self._preset}"; expected one of {", ".join(PRESETS)}, or words such as fit=crop',
                self._line_with(0, line, _nearest(self._preset, PRESETS)),
            )
        of_preset = dict(word.split("=") for word in PRESETS.get(self._preset, "").split())
        # Overriding a word of the preset also overrides the words that depend on it.
        for key, needed, goes in (("fit", "crop", "resize"), ("resampling", "bilinear", "antialias")):
            if self._written.get(key, needed) != needed:
                of_preset.pop(goes, None)
        if "mean" in self._written or "std" in self._written:
            of_preset.pop("scale", None)
        self._all = of_preset | self._written

    @property
    def usual_size(self) -> tuple[int, int] | None:
        """The preset's height and width for a model of free size."""
        side = _USUAL_SIDES.get(self._preset, USUAL_SIDE)
        return (side, side) if self._preset else None

    def is_written(self, key: str) -> bool:
        """Returns whether the line contains the word, apart from the preset."""
        return key in self._written

    def get(self, key: str) -> str | None:
        return self._all.get(key)

    def has(self, key: str) -> bool:
        return key in self._all

    def one_of(self, key: str, default: str) -> Any:
        """Returns a word's value, which must be one of its allowed values."""
        value, values = self._all.get(key, default), WORDS[key].values
        if value not in values:
            near = difflib.get_close_matches(value, values, n=1)
            raise DeclarationError(
                f"{key}={value}: expected one of {', '.join(values)}", self.with_(key, near[0]) if near else None
            )
        return value

    def read(self, key: str, reader: Callable[[str], Any], default: Any) -> Any:
        """Parses a word's value with `reader`, whose ValueError says what was expected."""
        if key not in self._all:
            return default
        try:
            return reader(self._all[key])
        except ValueError as error:
            raise DeclarationError(f"{key}={self._all[key]}: expected {error}", self.with_(key, None)) from error

    def with_(self, key: str, value: str | None) -> str:
        """Returns the line with a new value for a word, or without the word if None."""
        words = {**self._written, key: value}
        return " ".join(
            [*[self._preset][: bool(self._preset)], *(f"{k}={v}" for k, v in words.items() if v is not None)]
        )

    @staticmethod
    def _line_with(number: int, line: str, word: str) -> str:
        words = line.split()
        words[number] = word
        return " ".join(filter(None, words))


def combined(line: str, words: Mapping[str, str]) -> str:
    """Returns a line with additional words.

    Raises:
        DeclarationError: the line has a different value for one of the words, or an unknown word.
    """
    written = Words(line)
    further = []
    for key, value in words.items():
        if not written.is_written(key):
            further.append(f"{key}={value}")
        elif _whole(written.get(key)) != _whole(value):
            raise DeclarationError(
                f"it has {key}={written.get(key)}, but --{key} is {value}: use one of them", written.with_(key, value)
            )
    return " ".join([*line.split(), *further])


def _whole(value: str | None) -> str:
    """Returns a value with both sides, if it is a size of one number."""
    return f"{value}x{value}" if value and value.isdigit() else str(value)


def _nearest(value: str, known: Iterable[str]) -> str:
    return difflib.get_close_matches(str(value), list(known), n=1, cutoff=0)[0]
