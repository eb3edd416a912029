"""Reads untrusted npz files: their unpacked size is checked before anything is unpacked."""

import math
import struct
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

# The zip's last record, without a comment: the position and size of its directory.
_END = struct.Struct("<4s4H2LH")
_END_MARK = b"PK\5\6"
# Refers to a larger directory, which archives of more than 65,535 files need.
_LARGE_END = struct.Struct("<4sLQL")
_LARGE_END_MARK = b"PK\6\7"
# Python's reader expands each entry's 60 bytes to 500 and more.
_DIRECTORY_BYTES = 256 << 10
# The methods that NumPy writes. Python unpacks others without a limit.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Numbers, booleans and text; no pickles and no records.
_KINDS = "biufcU"
_MAX_STRINGS = 1 << 20

Array = npt.NDArray[np.generic]


class ArraysError(ValueError):
    """The file is not a complete npz file of plain arrays, or unpacks to too much; the message does not name it."""


def read_arrays(path: Path, most_bytes: int) -> dict[str, Array]:
    """Returns the arrays of an npz file by name.

    Memory: `most_bytes` and about one MiB.

    Args:
        path: the file.
        most_bytes: maximum total size of all arrays.

    Raises:
        ArraysError: the file is damaged or too large, or has a name twice or anything but plain arrays.
        OSError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ArraysError("it is not a file")
    with path.open("rb") as file:
        _check_end(file)
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                _check_sizes(members, most_bytes)
                for member in members:
                    _check_header(archive, member)
                return {_name(member): _read(archive, member) for member in members}
        except ArraysError:
            raise
        except Exception as error:  # zipfile, zlib and NumPy raise half a dozen errors for a damaged file
            raise ArraysError(f"it is damaged: {error}") from error


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _check_end(file: IO[bytes]) -> None:
    """Raises ArraysError if Python's reader would expand the archive's directory too much."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size - _LARGE_END.size))
    tail = file.read(_END.size + _LARGE_END.size)
    if len(tail) < _END.size or not tail[-_END.size :].startswith(_END_MARK) or not tail.endswith(b"\0\0"):
        raise ArraysError("it is not a whole npz file")
    directory_bytes = _END.unpack(tail[-_END.size :])[5]
    if directory_bytes > _DIRECTORY_BYTES or tail.startswith(_LARGE_END_MARK):
        raise ArraysError(
            f"its directory has {directory_bytes:,} bytes; at most {_DIRECTORY_BYTES:,} are read, a few hundred arrays"
        )


def _check_sizes(members: list[zipfile.ZipInfo], most_bytes: int) -> None:
    total_bytes = sum(member.file_size for member in members)
    if total_bytes > most_bytes:
        raise ArraysError(f"it unpacks to {total_bytes:,} bytes; at most {most_bytes:,} are read")
    seen: set[str] = set()
    for member in members:
        if member.compress_type not in _METHODS:
            raise ArraysError(f"{member.filename} is packed by method {member.compress_type}; expected deflate or none")
        if (name := _name(member)) in seen:
            raise ArraysError(f"{name} occurs twice")
        seen.add(name)


def _check_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raises ArraysError if a member is not an array, or its size differs from that in the archive."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        # Other versions are for records of many fields, and their headers may have gigabytes.
        if version != (1, 0):
            raise ArraysError(f"{member.filename} has NumPy's format {version}; expected (1, 0)")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        header_bytes = file.tell()
    if dtype.kind not in _KINDS:
        raise ArraysError(f"{member.filename} holds {dtype}; expected numbers or text (nothing pickled is read)")
    elements = math.prod(shape)
    if min(shape, default=0) < 0 or header_bytes + elements * dtype.itemsize != member.file_size:
        raise ArraysError(
            f"{member.filename} has {member.file_size - header_bytes:,} bytes of elements; its shape {list(shape)} and "
            f"type {dtype} make {elements * dtype.itemsize:,}"
        )
    # Text may have no characters, and so any number of elements in zero bytes.
    if dtype.kind == "U" and elements > _MAX_STRINGS:
        raise ArraysError(f"{member.filename} holds {elements:,} strings; at most {_MAX_STRINGS:,} are read")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    with archive.open(member) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array
