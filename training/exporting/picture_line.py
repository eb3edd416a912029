"""The image preprocessing in an exported model's configuration: checked, or assumed with a note."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

from pixelserve.imaging.declaration import Input, parse, undeclared
from pixelserve.imaging.spec import PictureSpec
from pixelserve.imaging.words import PRESETS, DeclarationError, Inversion, combined

from ..errors import UsageError
from ..progress import say
from ..runtime import OnnxModel
from . import config

_RANK, _SCORES_RANK = 4, 2
_KERAS = "keras"
_SCALING = ("scale", "mean", "std")
_ASSUMED = "note: assumed --picture keras: pictures are stretched, as Keras's loaders do; see docs/pictures.md"


def asked_line(line: str | None, words: Mapping[str, str], *, is_keras: bool) -> str | None:
    """Returns the line from an export's flags, or None without flags.

    Args:
        line: the value of --picture, or None.
        words: the settings with separate flags, by key.
        is_keras: whether it is a Keras model; without a line, settings are then added to the preset `keras`.

    Raises:
        UsageError: the line has an unknown setting, or contradicts a flag.
    """
    if not words:
        return line
    if line is None and is_keras:
        say(_ASSUMED.replace("; see", f", but for --{', --'.join(words)}; see"))
        line = _KERAS
    if is_keras and not words.keys().isdisjoint(_SCALING):
        say(
            "note: with --pixel-scale instead of --scale, --mean and --std, the graph scales pixels; tensors are then "
            "uint8, a quarter of the bytes"
        )
    try:
        return combined(line or "", words)
    except DeclarationError as error:
        raise _refused(line or "", error) from error


def picture_line(asked: str | None, model: OnnxModel, *, is_keras: bool) -> str:
    """Returns a model's parameter `picture`; empty if it needs none.

    Args:
        asked: the value of --picture, or None.
        model: the exported model.
        is_keras: whether it is a Keras model; Keras's loaders stretch images.

    Raises:
        UsageError: the line is invalid, or does not fit the model.
    """
    taken = _input(model)
    if asked is not None:
        return _checked(asked, taken)
    if taken is None or len(taken.dims) != _RANK - 1:
        return ""
    has_channels = 1 in (taken.dims[0], taken.dims[2]) or 3 in (taken.dims[0], taken.dims[2])
    if taken.is_of_bytes and is_keras and taken.dims[2] in (1, 3):
        say(_ASSUMED)
        return _KERAS
    if has_channels and not taken.is_of_bytes and not is_keras:
        say(
            f"note: it takes {taken.dtype} tensors; for Classify, give its image preprocessing with --picture: "
            f"one of {', '.join(PRESETS)}; or with flags such as --fit crop --scale 0..1 (docs/pictures.md)"
        )
    return ""


def served_pictures(
    line: str, model: OnnxModel, labelled: str | None, path: Path, *, asked: bool
) -> PictureSpec | None:
    """Returns the image preprocessing that a server uses for a model, or None if it accepts no images.

    Args:
        line: the parameter `picture` from `picture_line`.
        model: the exported model.
        labelled: the labelled output, or None.
        path: config.pbtxt, whose line applies if the model has other versions.
        asked: whether the user gave the line.

    Raises:
        UsageError: the user's line differs from the one on disk.
    """
    taken, inversion = _input(model), ""
    if path.is_file():
        written, inversion = config.read_picture(path)
        if written != line:
            problem = f'{path} says picture "{written}", not "{line}"'
            if asked:
                raise UsageError(f"{problem}; all versions share it: change it there, or export under another --name")
            say(f"note: {problem}; all versions share it, so it stays unchanged")
        line = written
    scores = [output for output in model.outputs if output.dtype.kind == "f" and len(output.shape) == _SCORES_RANK]
    if taken is None or (labelled is None and len(scores) != 1):
        return None
    try:
        spec = parse(line, taken) if line else undeclared(taken)
    except DeclarationError:
        # For a line on disk, the server's message says more.
        return None
    known = next((each for each in get_args(Inversion) if each == inversion), None)
    return replace(spec, inversion=known) if spec and known else spec


def _input(model: OnnxModel) -> Input | None:
    if len(model.inputs) != 1:
        return None
    tensor = model.inputs[0]
    return Input(tensor.shape[1:], tensor.dtype.name)


def _checked(line: str, taken: Input | None) -> str:
    if taken is None:
        raise UsageError("--picture is for models with one input")
    try:
        parse(line, taken)
    except DeclarationError as error:
        raise _refused(line, error) from error
    return line


def _refused(line: str, error: DeclarationError) -> UsageError:
    write = "" if error.write is None else f'; write --picture "{error.write}"'
    return UsageError(f'--picture "{line}": {error.problem}{write}')
