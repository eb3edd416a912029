"""Unpacks a model from an untrusted layer: every byte, name and entry is bounded and checked."""

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any, NoReturn, cast

from pixelserve.pull.errors import DamagedError, PullError, SourceFailed, UnsafeSourceError

from .contents import ROOT
from .documents import Descriptor, Read

_CHUNK_BYTES = 1 << 20
# A base image has tens of thousands; a listing of a model has at most 10,000 (pull/listing.py).
_MAX_ENTRIES = 200_000
_MAX_FILES = 10_000
_MAX_DEPTH = 10
_MAX_READS_AT_END = 100
# Maximum number of names in an error message.
_MAX_NAMED = 10
# For long names and PAX headers, which the tar reader loads whole into memory.
_MAX_HEADER_BYTES = 1 << 20
_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


class Verified:
    """A blob's bytes, checked against the size and digest of its descriptor."""

    def __init__(self, read: Read, descriptor: Descriptor, shown: str, on_bytes: Callable[[int], object]) -> None:
        self._read = read
        self._descriptor = descriptor
        self._shown = shown
        self._on_bytes = on_bytes
        self._hashed = hashlib.sha256()
        self._count = 0

    def read(self, count: int = -1) -> bytes:
        """Reads up to `count` bytes.

        Raises:
            SourceFailed: there are more than announced.
        """
        data = self._read(_CHUNK_BYTES if count < 0 else min(count, _CHUNK_BYTES))
        self._hashed.update(data)
        self._count += len(data)
        if self._count > self._descriptor.size:
            raise SourceFailed(f"{self._shown}: {self._descriptor.digest} has more bytes than announced; push it again")
        self._on_bytes(len(data))
        return data

    def finish(self) -> None:
        """Reads the rest.

        Raises:
            SourceFailed: there are fewer bytes than announced.
            DamagedError: their digest differs.
        """
        while self.read():
            pass
        if self._count != self._descriptor.size:
            raise SourceFailed(
                f"{self._shown}: {self._descriptor.digest} has {self._descriptor.size:,} bytes, and {self._count:,} "
                f"came; try again"
            )
        if f"sha256:{self._hashed.hexdigest()}" != self._descriptor.digest:
            raise DamagedError(f"{self._shown}: {self._descriptor.digest} has other content; push the image again")


class _Bounded(io.RawIOBase):
    """The unpacked bytes of a layer, up to a limit."""

    def __init__(self, stream: Any, unsafe: Callable[[str], PullError], most_bytes: int) -> None:
        self._stream = stream
        self._unsafe = unsafe
        self.left = most_bytes
        self._reads_at_end = 0

    def read(self, count: int = -1) -> bytes:
        data: bytes = self._stream.read(_CHUNK_BYTES if count < 0 else min(count, _CHUNK_BYTES))
        self.left -= len(data)
        # The tar reader would skip an entry of 2**60 bytes read by read, even at the end of the data.
        self._reads_at_end += not data
        if self._reads_at_end > _MAX_READS_AT_END:
            raise EOFError("it ends in the middle of an entry")
        if self.left < 0:
            raise self._unsafe("unpacks to more than --max-mib allows; raise that if it is right")
        return data


class _Header(tarfile.TarInfo):
    """A tar header of bounded size; sparse files, whose maps are not bounded, are refused."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        # In base-256 encoding it may be negative.
        if self.size < 0:
            raise tarfile.HeaderError(f"an entry of {self.size:,} bytes")
        if self.type in _HEADERS and self.size > _MAX_HEADER_BYTES:
            raise tarfile.HeaderError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]  # the hook for subclasses, which has no stub

    def _refuse_sparse(self, *_: object) -> NoReturn:
        raise tarfile.HeaderError("a sparse file")

    _proc_sparse = _refuse_sparse
    _proc_gnusparse_00 = _refuse_sparse
    _proc_gnusparse_01 = _refuse_sparse
    _proc_gnusparse_10 = _refuse_sparse


class Unpacker:
    """Writes the files of one model, out of the layers of an image, into a folder.

    Args:
        folder: the target, which exists.
        model: the model's folder below /models in the image.
        shown: the image, for messages.
        most_bytes: maximum unpacked size of all layers.
    """

    def __init__(self, folder: Path, model: str, shown: str, most_bytes: int) -> None:
        self._folder = folder
        self._inside = (*ROOT.parts, model)
        self._shown = shown
        self._left = most_bytes
        self._entries = self._files = 0
        self.models: set[str] = set()
        """Names of some folders below /models in the image."""

    def unpack(self, read: Read, descriptor: Descriptor, on_bytes: Callable[[int], object]) -> None:
        """Unpacks a layer. Use nothing of it before this returns.

        Raises:
            UnsafeSourceError: an entry leads out of the folder or is not a file, or a limit is exceeded.
            DamagedError: it is not a layer, or does not match its digest.
            SourceFailed: its size differs from the announced one.
            OSError: it cannot be written.
        """
        verified = Verified(read, descriptor, self._shown, on_bytes)
        try:
            self._unpack_tar(self._unpacked(verified, descriptor))
            verified.finish()
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError, ValueError) as error:
            # A truncated or replaced blob is reported as such, not as a bad layer.
            verified.finish()
            raise DamagedError(f"{self._shown}: {descriptor.digest} is not a layer: {error}; push it again") from error

    def _unpacked(self, verified: Verified, descriptor: Descriptor) -> _Bounded:
        kind = descriptor.media_type
        if kind.endswith(("gzip", "tar")):
            stream = gzip.GzipFile(fileobj=cast(IO[bytes], verified)) if kind.endswith("gzip") else verified
            return _Bounded(stream, self._unsafe, self._left)
        raise DamagedError(
            f"{self._shown}: a layer of the type {kind or '(none)'} cannot be read; expected tar, or tar packed by gzip"
        )

    def _unsafe(self, problem: str) -> UnsafeSourceError:
        return UnsafeSourceError(f"{self._shown}: {problem}; nothing was written")

    def _unpack_tar(self, stream: _Bounded) -> None:
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", tarinfo=_Header, errorlevel=2) as archive:
            for member in archive:
                self._entries += 1
                if self._entries > _MAX_ENTRIES:
                    raise self._unsafe(f"has more than {_MAX_ENTRIES:,} entries")
                self._take(archive, member)
                # Otherwise it would keep every entry of the layer in memory.
                archive.members.clear()  # type: ignore[attr-defined]  # documented by use only
        self._left = stream.left

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = self._checked(member.name)
        if parts[: len(ROOT.parts)] == ROOT.parts and len(parts) > 1 and len(self.models) < _MAX_NAMED:
            self.models.add(parts[1])
        if parts[: len(self._inside)] != self._inside:
            return
        inner = parts[len(self._inside) :]
        if any(part.startswith(".wh.") for part in inner):
            raise self._unsafe(f"{member.name!r} removes what a layer below has; put the model into one layer")
        if member.isdir() or any(part.startswith(".") for part in inner):
            return
        if not member.isreg() or not inner:
            raise self._unsafe(f"{member.name!r} is neither a file nor a folder; images hold copies, not links")
        self._write(archive, member, self._folder.joinpath(*inner))

    def _checked(self, name: str) -> tuple[str, ...]:
        path = PurePosixPath(name)
        is_ours = path.parts[:1] == ROOT.parts
        if path.is_absolute() or ".." in path.parts or (is_ours and ("\\" in name or not name.isprintable())):
            raise self._unsafe(f"{name[:200]!r} is not the name of a file in an image")
        if is_ours and len(path.parts) > _MAX_DEPTH:
            raise self._unsafe(f"{name[:200]!r} is too deep; a model is flat")
        return path.parts

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        self._files += 1
        if self._files > _MAX_FILES:
            raise self._unsafe(f"has more than {_MAX_FILES:,} files of the model; a model has a few")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A later layer replaces entries of a lower one.
            path.unlink(missing_ok=True)
            file = path.open("xb")
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise self._unsafe(f"{member.name!r} is a file and a folder") from error
        with file, cast(IO[bytes], archive.extractfile(member)) as content:
            while chunk := content.read(_CHUNK_BYTES):
                file.write(chunk)
