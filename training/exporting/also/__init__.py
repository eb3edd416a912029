"""Writes a version in the formats of other runtimes too, one per file, compared with its ONNX model by these runtimes.

The files lie in a folder of their own, DIR/MODEL/VERSION, and not in the version's: a version's folder is what servers
load, verify, mirror and pack into images, and none of them needs these.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pixelserve.card import Card, OtherFormat
from pixelserve.golden import Golden, largest_difference

from ...errors import ParityError, UsageError
from ...progress import say
from ...runtime import CPU, OnnxModel
from ...staging import staged
from ..publish import Slot
from . import openvino, tflite
from .base import Format, Made

if TYPE_CHECKING:
    from ..sources import Source

FORMATS: Mapping[str, Format] = {tflite.NAME: tflite.make, openvino.NAME: openvino.make}
"""The formats by name."""


def check(names: Sequence[str], folder: Path | None, slot: Slot, *, if_better: bool) -> None:
    """Checks that other formats can be written, before anything is converted.

    Raises:
        UsageError: there is no folder, it is in the repository, or the version may not be written.
    """
    if names and if_better:
        raise UsageError(
            "--also and --if-better exclude each other: first publish, then export the same model with --also"
        )
    if names and folder is None:
        raise UsageError(f"--also {names[0]} needs a folder for its files, outside the repository: --also-to DIR")
    if folder is not None and not names:
        raise UsageError("--also-to is the folder of --also: give a format, such as --also tflite")
    if folder is not None and _of(folder, slot).resolve().is_relative_to(slot.repository.resolve()):
        raise UsageError(
            f"--also-to {folder}: servers would find the files {_of(folder, slot)} in the repository "
            f"{slot.repository}; give a folder outside of it"
        )


def check_samples(names: Sequence[str], golden: Golden | None) -> None:
    """Checks that other formats can be compared.

    Raises:
        UsageError: there are no samples.
    """
    if names and golden is None:
        raise UsageError(f"--also {names[0]} is compared on real inputs: give x with --samples FILE.npz")


def _of(folder: Path, slot: Slot) -> Path:
    """Returns the folder of a version's files."""
    return folder / slot.model / str(slot.version)


def make_all(
    names: Sequence[str], source: "Source", model: OnnxModel, golden: Golden, card: Card
) -> tuple[Card, dict[str, bytes]]:
    """Makes a model's other formats.

    Args:
        names: the formats.
        source: the model with its ONNX file.
        model: that file, loaded.
        golden: real inputs; each runtime's outputs for them are compared with ONNX Runtime's.
        card: the version's card.

    Returns:
        The card with these formats, and their files' contents by name.

    Raises:
        MissingLibraryError: a format's runtime is not installed.
        SourceError: a format's converter or runtime does not support the model.
        ParityError: a runtime's output differs from ONNX Runtime's by more than the card's tolerance.
    """
    files: dict[str, bytes] = {}
    entries = []
    for name in dict.fromkeys(names):
        say(f"converting to {name}")
        made = FORMATS[name](source, model)
        entries.append(_compared(name, made, model, golden, card.tolerance(CPU)))
        files |= made.files
    return card.model_copy(update={"other_formats": entries}), files


def _compared(name: str, made: Made, model: OnnxModel, golden: Golden, tolerance: float) -> OtherFormat:
    inputs = golden.inputs
    expected, found = model.run(inputs), made.run(inputs)
    # NaN counts as infinitely different.
    worst = max(largest_difference(found[output], expected[output]) for output in expected)
    if not worst <= tolerance:
        raise ParityError(
            f"{made.runtime} {made.version} computes something else from the {name} file than ONNX Runtime from "
            f"model.onnx: outputs differ by up to {worst:.3g}, the tolerance is {tolerance:.3g}; nothing was written: "
            f"omit --also {name}, or give a larger --tolerance"
        )
    return OtherFormat(
        format=name,
        files={file: hashlib.sha256(content).hexdigest() for file, content in made.files.items()},
        runtime=made.runtime,
        runtime_version=made.version,
        tolerance=tolerance,
        max_abs_error=worst,
        samples=golden.samples,
    )


@contextlib.contextmanager
def written(folder: Path | None, slot: Slot, files: Mapping[str, bytes]) -> Iterator[None]:
    """Writes other formats' files to DIR/MODEL/VERSION if the block succeeds, which writes the version.

    Raises:
        TargetExistsError: that folder exists already.
        WriteError: it cannot be written.
    """
    if folder is None or not files:
        yield
        return
    with staged(_of(folder, slot)) as staging:
        for name, content in files.items():
            (staging / name).write_bytes(content)
        yield
