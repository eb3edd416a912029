"""External data of ONNX files, as PyTorch's exporter writes it: model.onnx and model.onnx.data.

A protobuf message is limited to 2 GB: smaller models become one file; larger ones keep their external files.
The model defines the locations, so they are checked before any file is opened.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from onnx import ModelProto, TensorProto
from onnx.external_data_helper import uses_external_data

from pixelserve.card import CARD_FILE, GOLDEN_FILE, GOLDEN_PICTURE_FILE, MODEL_FILE

from ..errors import SourceError
from .formats import is_lfs_pointer

MOST_BYTES = 2_000_000_000
"""Maximum bytes of a written ONNX file: protobuf's limit, with a margin."""

_TAKEN = (CARD_FILE, GOLDEN_FILE, GOLDEN_PICTURE_FILE, MODEL_FILE)


def files(model: ModelProto, path: Path) -> dict[str, Path]:
    """Returns a model's external files, by location.

    Args:
        model: the model, without external data.
        path: its file, which locations are relative to.

    Raises:
        SourceError: a location is outside the model's folder, or the file is missing or not a regular file.
    """
    return {
        location: _found(location, path) for location in sorted({_facts(each)["location"] for each in _kept(model)})
    }


def merge(model: ModelProto, found: Mapping[str, Path], path: Path) -> None:
    """Loads external data into the model.

    Args:
        model: the model; changed in place.
        found: the files by location, as `files` returns them.
        path: the model's file, for messages.

    Raises:
        SourceError: a file is shorter than the model states.
    """
    for tensor in _kept(model):
        facts = _facts(tensor)
        tensor.raw_data = _read(found[facts["location"]], facts, tensor.name, path)
        tensor.ClearField("external_data")
        tensor.data_location = TensorProto.DEFAULT


def check_servable(found: Mapping[str, Path], path: Path) -> None:
    """Checks that the files of a model too large to merge can lie beside model.onnx in a version's folder.

    Raises:
        SourceError: one is in a subfolder, or has the name of another file of the version.
    """
    for location in found:
        if location in _TAKEN or len(PurePosixPath(location).parts) != 1:
            raise SourceError(
                f"{path}: more than 2 GB, and its weights are in {location}; write them into one file beside it: "
                f"onnx.save(onnx.load('{path.name}'), 'large.onnx', save_as_external_data=True, "
                f"location='large.onnx.data')"
            )


def _kept(message: Any) -> Iterator[TensorProto]:
    """Yields every tensor with external data, including those of subgraphs and functions."""
    if isinstance(message, TensorProto):
        if uses_external_data(message):
            yield message
        return
    for _, value in message.ListFields():
        # A field holds one message, several, or values without fields of their own.
        for each in (value,) if hasattr(value, "ListFields") else value if hasattr(value, "add") else ():
            yield from _kept(each)


def _facts(tensor: TensorProto) -> dict[str, str]:
    return {"location": "", **{entry.key: entry.value for entry in tensor.external_data}}


def _found(location: str, path: Path) -> Path:
    named = PurePosixPath(location)
    if not location or named.is_absolute() or ".." in named.parts:
        raise SourceError(
            f'{path}: keeps weights in "{location}", outside its folder, which is not read; '
            f"export the model again with its weights beside it"
        )
    try:
        file = (path.parent / named).resolve(strict=True)
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{path}: its weights are in {location}, and {path.parent / named} is missing; copy both files and keep "
            f"their names"
        ) from error
    # In the caches of model hubs, the model itself is a link to another folder.
    folders = (path.parent.resolve(), path.resolve().parent)
    if not any(file.is_relative_to(folder) for folder in folders):
        raise SourceError(
            f"{path}: {path.parent / named} is a link out of the model's folder, which is not read; "
            f"put the file itself there"
        )
    if not file.is_file():
        raise SourceError(f"{path}: keeps weights in {location}, which is not a file; copy the model again")
    if is_lfs_pointer(file):
        raise SourceError(
            f"{path.parent / named}: a Git LFS pointer instead of the weights; fetch them first: git lfs pull"
        )
    return file


def _read(file: Path, facts: Mapping[str, str], tensor: str, path: Path) -> bytes:
    size = file.stat().st_size
    try:
        offset = int(facts.get("offset") or 0)
        length = int(facts["length"]) if facts.get("length") else size - offset
    except ValueError as error:
        raise SourceError(
            f"{path}: the offset or length of {tensor} in {facts['location']} is not a number; {_AGAIN}"
        ) from error
    if offset < 0 or length < 0 or offset + length > size:
        raise SourceError(
            f"{path}: {tensor} is at bytes {offset:,} to {offset + length:,} of {facts['location']}, which has "
            f"{size:,}: it is cut short or belongs to another model; {_AGAIN}"
        )
    with file.open("rb") as opened:
        opened.seek(offset)
        return opened.read(length)


_AGAIN = "copy or export both files again"
