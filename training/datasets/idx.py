"""Reads IDX files, the format of MNIST and Fashion-MNIST.

The format: two zero bytes, the element type (8 is uint8), the number of dimensions, each dimension's length as a
big-endian uint32, then the elements in row-major order. Described at https://yann.lecun.com/exdb/mnist/.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DataError

_UINT8 = 8
_GZIP_MAGIC = b"\x1f\x8b"


def read(path: Path, *, rank: int) -> npt.NDArray[np.uint8]:
    """Reads an IDX file of uint8 elements, gzipped or not.

    Args:
        path: the file.
        rank: the required number of dimensions: 3 for images [N, H, W], 1 for labels [N].

    Raises:
        DataError: it cannot be read, is damaged or truncated, or is of another kind.
    """
    content = _content(path)
    head_bytes = 4 + 4 * rank
    magic = bytes((0, 0, _UINT8, rank))
    if len(content) < head_bytes or content[:4] != magic:
        raise DataError(
            f"{path}: not an IDX file of {rank} dimensions: expected it to begin with {magic.hex()}, "
            f"found {content[:4].hex() or 'nothing'}; download the file again"
        )
    shape = struct.unpack(f">{rank}I", content[4:head_bytes])
    expected_bytes = head_bytes + math.prod(shape)
    if len(content) != expected_bytes:
        raise DataError(
            f"{path}: its header states {expected_bytes} bytes, but it has {len(content)}; "
            f"the file is truncated or damaged: download it again"
        )
    return np.frombuffer(content, np.uint8, offset=head_bytes).reshape(shape)


def encode(array: npt.NDArray[np.uint8]) -> bytes:
    """Returns the uncompressed IDX file that holds `array`."""
    return bytes((0, 0, _UINT8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP_MAGIC) else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); the file is damaged: download it again") from error
