"""The words of the line that declares a model's pictures, and how to correct them."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

PRESETS = {
    "imagenet": "fit=crop resize=8/7 resampling=bilinear scale=imagenet",
    "vit": "fit=stretch resampling=bilinear scale=-1..1",
    "keras": "fit=stretch resampling=bilinear antialias=no",
    "mnist": "fit=mnist inversion=auto",
}
"""What a first word stands for. imagenet is what torchvision's classifiers were trained with (the shorter side to 256
for a crop of 224), vit what the image processors of vision transformers do, keras what Keras's loaders do."""

KEYS = (
    "colour",
    "layout",
    "size",
    "fit",
    "resize",
    "resampling",
    "antialias",
    "background",
    "scale",
    "mean",
    "std",
    "inversion",
)
"""The words that a line may have."""

USUAL_SIDE = 224
"""Pixels a side, where a preset is for a model that leaves its size free."""
_USUAL_SIDES = {"mnist": 28}


class DeclarationError(Exception):
    """A line that declares no pictures, or not those of this model."""

    def __init__(self, problem: str, write: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        """What was expected and what was received."""
        self.write = write
        """The line to write instead; None: it depends on what the model was trained with."""


class Words:
    """The words of a line, which know how to be corrected."""

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
            if not equals or key not in KEYS:
                best = _nearest(key, KEYS)
                raise DeclarationError(
                    f'"{word}" is not one of the words {", ".join(f"{known}=…" for known in KEYS)}',
                    self._line_with(number, line, f"{best}={value}" if equals else ""),
                )
            self._written[key] = value
        if self._preset and self._preset not in PRESETS:
            raise DeclarationError(
                f'there is no preset "{self._preset}"; expected one of {", ".join(PRESETS)}, or words such as fit=crop',
                self._line_with(0, line, _nearest(self._preset, PRESETS)),
            )
        of_preset = dict(word.split("=") for word in PRESETS.get(self._preset, "").split())
        # What overrides a word of the preset's overrides what only goes with that word.
        for key, needed, goes in (("fit", "crop", "resize"), ("resampling", "bilinear", "antialias")):
            if self._written.get(key, needed) != needed:
                of_preset.pop(goes, None)
        if "mean" in self._written or "std" in self._written:
            of_preset.pop("scale", None)
        self._all = of_preset | self._written

    @property
    def usual_size(self) -> tuple[int, int] | None:
        """The preset's height and width for a model that leaves them free."""
        side = _USUAL_SIDES.get(self._preset, USUAL_SIDE)
        return (side, side) if self._preset else None

    def is_written(self, key: str) -> bool:
        """Returns whether the line has a word itself."""
        return key in self._written

    def get(self, key: str) -> str | None:
        return self._all.get(key)

    def has(self, key: str) -> bool:
        return key in self._all

    def one_of(self, key: str, values: Sequence[str], default: str) -> Any:
        """Returns the value of a word that has to be one of these."""
        value = self._all.get(key, default)
        if value not in values:
            near = difflib.get_close_matches(value, values, n=1)
            raise DeclarationError(
                f"{key}={value}: expected one of {', '.join(values)}", self.with_(key, near[0]) if near else None
            )
        return value

    def read(self, key: str, reader: Callable[[str], Any], default: Any) -> Any:
        """Returns what a function reads of a word's value; ValueError of it says what was expected."""
        if key not in self._all:
            return default
        try:
            return reader(self._all[key])
        except ValueError as error:
            raise DeclarationError(f"{key}={self._all[key]}: expected {error}", self.with_(key, None)) from error

    def with_(self, key: str, value: str | None) -> str:
        """Returns the line with another value of a word; None: without the word."""
        words = {**self._written, key: value}
        return " ".join(
            [*[self._preset][: bool(self._preset)], *(f"{k}={v}" for k, v in words.items() if v is not None)]
        )

    @staticmethod
    def _line_with(number: int, line: str, word: str) -> str:
        words = line.split()
        words[number] = word
        return " ".join(filter(None, words))


def _nearest(value: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    return difflib.get_close_matches(str(value), list(known), n=1, cutoff=0)[0]
