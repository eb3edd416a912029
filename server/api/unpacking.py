"""Decompresses messages and bodies; their bytes count as in flight before memory is allocated."""

import threading
import zlib
from collections.abc import Callable, Iterator

from ..errors import InvalidRequest, RequestError

WINDOW_BITS = {"gzip": 31, "deflate": 15}
"""zlib's window sizes by encoding; deflate is zlib's format, in gRPC as in HTTP (RFC 9110, 8.4.1.2)."""

# Compressed bytes are read in steps.
_STEP_BYTES = 64 * 1024
PIECE_BYTES = 256 * 1024
"""Maximum bytes that are decompressed before they count."""
MAX_RATIO = 100
"""Maximum ratio of decompressed to compressed bytes, above `FREE_BYTES`: a decompression bomb has about 1,000."""
FREE_BYTES = 1024 * 1024
"""Decompressed bytes for which any ratio is accepted, because small blank tensors compress well."""


class TooLarge(RequestError):
    """Sender error: a message is too large."""


class _CutOffError(Exception):
    """The compressed data is truncated or followed by other bytes."""


class Left(Exception):
    """The caller left before its request was complete."""


class Holding:
    """Bytes of one request, which count as in flight until `end`. Thread-safe.

    Args:
        hold_more: counts more bytes of a request, given those already counted, or raises.
        release: stops counting bytes.
    """

    def __init__(self, hold_more: Callable[[int, int], object], release: Callable[[int], object]) -> None:
        self._hold_more = hold_more
        self._release = release
        self._lock = threading.Lock()
        self._bytes = 0
        self._is_over = False

    def hold(self, size_bytes: int) -> None:
        """Counts more bytes.

        Raises:
            Left: `end` was called; a decompressing thread may outlive its caller, and must count nothing.
            RequestError: too many bytes are in flight.
        """
        with self._lock:
            if self._is_over:
                raise Left
            self._hold_more(size_bytes, self._bytes)
            self._bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """Stops counting some of the bytes."""
        with self._lock:
            if not self._is_over:
                self._bytes -= size_bytes
                self._release(size_bytes)

    def end(self) -> None:
        """Stops counting all bytes."""
        with self._lock:
            self._is_over = True
            self._release(self._bytes)


def unpack(
    packed: bytes,
    encoding: str,
    max_bytes: int,
    reserve: Callable[[int], object] = lambda _: None,
    *,
    header: str = "grpc-encoding",
    what: str = "message",
) -> bytes:
    """Decompresses; never holds more than `max_bytes` of the result.

    Args:
        packed: the compressed bytes.
        encoding: their encoding, a key of `WINDOW_BITS`.
        max_bytes: maximum decompressed size.
        reserve: called with the size before anything is kept; may raise.
        header: names the encoding's header in errors.
        what: names the content in errors.

    Raises:
        InvalidRequest: they are not valid in that encoding, or expand more than `MAX_RATIO` times.
        TooLarge: the result exceeds `max_bytes`.
    """
    size, only = 0, b""
    try:
        for piece in _pieces(packed, encoding):
            only = b"" if size else piece
            size += len(piece)
            if size > max_bytes:
                raise TooLarge
            if size > max(FREE_BYTES, MAX_RATIO * len(packed)):
                raise InvalidRequest(
                    f"the {what} expands to more than {MAX_RATIO} times its {len(packed):,} compressed bytes; "
                    f"send it uncompressed"
                )
        reserve(size)
        # Unpacked again, now that its size is known. Pieces that are joined take twice the memory, and a buffer that
        # grows leaves holes: 40 messages of 60 MiB on six threads took 261 to 461 MiB where 256 were counted. And of
        # several that count as they grow, each keeps the others from becoming whole.
        return only if size == len(only) else zlib.decompress(packed, WINDOW_BITS[encoding], size)
    except _CutOffError as error:
        raise InvalidRequest(f"{header} is {encoding} and the {what} is cut off, or has more behind its end") from error
    except zlib.error as error:
        raise InvalidRequest(f"{header} is {encoding} and the {what} is not: {error}") from error


def _pieces(packed: bytes, encoding: str) -> Iterator[bytes]:
    unpacker, start, rest = zlib.decompressobj(WINDOW_BITS[encoding]), 0, b""
    for start in range(0, len(packed), _STEP_BYTES):
        rest, piece = packed[start : start + _STEP_BYTES], b""
        while (rest or len(piece) == PIECE_BYTES) and not unpacker.eof:
            piece = unpacker.decompress(rest, PIECE_BYTES)
            rest = unpacker.unconsumed_tail
            yield piece
        if unpacker.eof:
            break
    if not unpacker.eof or unpacker.unused_data or rest or start + _STEP_BYTES < len(packed):
        raise _CutOffError
