"""A model's files: the graph, and files beside it with its weights (ONNX's external data).

The graph names those files, and is untrusted: the names are checked here, before a runtime opens the files.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from google.protobuf.message import DecodeError, Message

from .onnx import model_pb2

MODEL_FILE = "model.onnx"

# The key of a tensor's file name. A graph without these bytes, as most are, need not be parsed.
_KEY = b"location"
_CHUNK_BYTES = 1 << 20
_MAX_GRAPH_BYTES = 2 << 30
# ONNX Runtime interprets this name as an address in its own memory.
_ADDRESS = "_ORT_MEM_ADDR_"


class ExternalDataError(Exception):
    """The names of a graph's weight files are invalid; the message says what to do, without the model's file."""


def find_model_file(version: Path, name: str = MODEL_FILE) -> Path:
    """Returns a version's graph file, which may be missing. In Triton's layout a folder of that name may hold it.

    Args:
        version: the version's folder.
        name: the name in config.pbtxt's default_model_filename.
    """
    path = version / name
    return path / MODEL_FILE if path.is_dir() else path


def external_files(model: Path) -> tuple[str, ...]:
    """Returns a model's weight files, as paths relative to the model file's folder.

    Memory: twice the graph's file if it names any; else a few MiB.

    Raises:
        ExternalDataError: a file is missing, or leads out of the folder, directly or through a link; or the
            graph names files but cannot be parsed.
        OSError: the file cannot be read.
    """
    # A pipe would block.
    if model.exists() and not model.is_file():
        raise ExternalDataError("it is not a file; copy or export it again")
    if model.suffix == ".ort" or not _mentions_files(model):
        return ()
    if model.stat().st_size >= _MAX_GRAPH_BYTES:
        raise ExternalDataError("the graph has 2 GiB or more, which ONNX does not allow; move all weights out of it")
    try:
        graph = model_pb2.ModelProto.FromString(model.read_bytes())
    except DecodeError as error:
        raise ExternalDataError(f"it is not an ONNX model ({error}); copy or export it again") from error
    folder = model.parent.resolve()
    return tuple(sorted({_checked(name, folder) for name in _names(graph)}))


def sha256_of(path: Path) -> str:
    """Returns a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def external_hashes(model: Path) -> dict[str, str]:
    """Returns the SHA-256 in hex of a model's weight files, by path relative to the model file's folder.

    Raises:
        ExternalDataError: as `external_files`.
        OSError: a file cannot be read.
    """
    return {name: sha256_of(model.parent / name) for name in external_files(model)}


def _mentions_files(model: Path) -> bool:
    before = b""
    # In pieces, so other threads can run. Not mapped: a file that shrinks would then kill the process.
    with model.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            if _KEY in before + chunk:
                return True
            before = chunk[-len(_KEY) :]
    return False


def _names(message: Message) -> Iterator[bytes]:
    """Yields the file names of all tensors in a message. The parser limits nesting."""
    if isinstance(message, model_pb2.TensorProto):
        if message.data_location == model_pb2.TensorProto.EXTERNAL:
            yield from (entry.value for entry in message.external_data if entry.key == _KEY)
        return
    for field, value in message.ListFields():
        for each in value if field.is_repeated else (value,):
            yield from _names(each)


def _checked(name: bytes, folder: Path) -> str:
    text = name.decode(errors="replace")
    path = PurePosixPath(text)
    where = f'its weights are in "{text[:200]}"'
    is_plain = text.isprintable() and "\ufffd" not in text and _ADDRESS not in text
    if not path.name or not is_plain or path.is_absolute() or ".." in path.parts:
        raise ExternalDataError(f"{where}; expected the name of a file beside the model: export it again")
    # Also through links: nothing outside the folder may become part of a model.
    if not (folder / path).resolve().is_relative_to(folder):
        raise ExternalDataError(f"{where}, a link out of the model's folder; put the file itself there")
    if not (folder / path).is_file():
        raise ExternalDataError(f"{where}, and there is no such file; copy it beside the model")
    return str(path)
