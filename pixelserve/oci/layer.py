"""A layer of an image: a tar stream whose bytes depend only on the files' names and contents."""

import hashlib
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pixelserve.pull.errors import SourceFailed

from .documents import LAYER

_CHUNK_BYTES = 1 << 20
_END = bytes(2 * tarfile.BLOCKSIZE)

Files = Mapping[PurePosixPath, Path | bytes]
"""By path in the image, the file to copy or the bytes to write."""


@dataclass(frozen=True)
class Layer:
    """A layer that is streamed as often as needed, and never held in memory.

    It is not compressed: a compressor's output depends on its version, and the weights of our models would shrink by
    only 7 to 8 %.
    """

    files: Files
    """What it holds."""
    digest: str
    """Of its bytes."""
    size: int
    """Its size in bytes."""

    def chunks(self) -> Iterator[bytes]:
        """Yields the layer's bytes.

        Raises:
            SourceFailed: a file changed since its size was read.
            OSError: a file cannot be read.
        """
        return _chunks(self.files)

    def descriptor(self) -> dict[str, object]:
        """Returns its descriptor for a manifest."""
        return {"mediaType": LAYER, "digest": self.digest, "size": self.size}


def make_layer(files: Files) -> Layer:
    """Returns the layer of these files; reads all of them.

    Raises:
        SourceFailed: a file changed meanwhile.
        OSError: a file cannot be read.
    """
    hashed, size = hashlib.sha256(), 0
    for chunk in _chunks(files):
        hashed.update(chunk)
        size += len(chunk)
    return Layer(files, f"sha256:{hashed.hexdigest()}", size)


def _chunks(files: Files) -> Iterator[bytes]:
    folders = {parent for path in files for parent in path.parents if parent.parts}
    for path in sorted({*folders, *files}, key=lambda path: path.parts):
        if path in folders:
            yield _header(path, 0, tarfile.DIRTYPE)
        else:
            yield from _entry(path, files[path])
    yield _END


def _entry(path: PurePosixPath, content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield _header(path, len(content), tarfile.REGTYPE) + content + _padding(len(content))
        return
    with content.open("rb") as file:
        size, done = os.fstat(file.fileno()).st_size, 0
        yield _header(path, size, tarfile.REGTYPE)
        while chunk := file.read(min(_CHUNK_BYTES, size - done)):
            done += len(chunk)
            yield chunk
    if done != size:
        raise SourceFailed(f"{content} has become shorter while it was read; is it being written? try again")
    yield _padding(size)


def _header(path: PurePosixPath, size: int, kind: bytes) -> bytes:
    # Time, owner and mode are constants: TarInfo's defaults are the epoch, root and 0644.
    info = tarfile.TarInfo(str(path))
    info.size, info.type = size, kind
    if kind == tarfile.DIRTYPE:
        info.mode = 0o755
    # Every reader of layers supports PAX, and only long or non-ASCII names need more than a block.
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
