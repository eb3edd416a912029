"""gRPC over HTTP/2 (protocol: grpc/doc/PROTOCOL-HTTP2.md): frames of messages, time-outs, compression, statuses."""

import base64
import binascii
import functools
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote

import grpc

from ...api.status import Status
from ...errors import InvalidRequest, RequestError, Unimplemented

PREFIX_BYTES = 5
"""A message's prefix: whether it is compressed, and its size."""

Headers = list[tuple[bytes, bytes]]

RESPONSE_HEADERS: Headers = [
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity,deflate,gzip"),
]

# A compressed message is read in steps, and kept in pieces, each of which is counted before.
_STEP_BYTES = 64 * 1024
_PIECE_BYTES = 256 * 1024

# zlib's window sizes for the two formats; gRPC's deflate is zlib's format.
_WINDOW_BITS = {b"gzip": 31, b"deflate": 15}

_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}

# What an answer may take to the caller.
_TRAVEL_S = 0.005

# Everything that is printable but the sign that escapes.
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")

# Of the transport itself, not the caller's.
_OWN_KEYS = frozenset((b"te", b"content-type", b"host", b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding"))


class TooLarge(RequestError):
    """The sender's fault: a message is larger than is taken."""


def too_large(size_bytes: int, max_bytes: int) -> Status:
    """Returns how a call ends whose message has that many bytes."""
    return Status(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"the message has {size_bytes:,} bytes; at most {max_bytes:,} are taken (--max-message-mib)",
        reason="too_large",
    )


def timeout_s(value: bytes) -> float:
    """Reads a grpc-timeout header.

    Raises:
        InvalidRequest: it is not one to eight digits and a unit.
    """
    digits, unit = value[:-1], value[-1:]
    if not (digits.isdigit() and len(digits) <= 8 and unit in _UNITS_S):
        raise InvalidRequest(
            f"grpc-timeout is {value[:20]!r}; expected one to eight digits and one of H, M, S, m, u, n"
        )
    return int(digits) * _UNITS_S[unit]


# Clients send a few values again and again.
@functools.lru_cache(maxsize=1024)
def answerable_s(value: bytes) -> float:
    """Reads a grpc-timeout header; returns how long an answer may take to be in time for the caller.

    A little less than the caller waits, so that it is told before it gives up: a reset of each call that was late would
    make the front take the caller for an attacker, and end its connection (more than 200 in ten seconds).

    Raises:
        InvalidRequest: it is not one to eight digits and a unit.
    """
    whole_s = timeout_s(value)
    return whole_s - min(_TRAVEL_S, whole_s / 10)


def prefix(message: bytes) -> bytes:
    """Returns what precedes a message that is not compressed."""
    # The first of the five bytes says that it is not.
    return len(message).to_bytes(PREFIX_BYTES, "big")


def check_encoding(encoding: bytes) -> None:
    """Checks what compressed messages are said to be compressed with.

    Raises:
        InvalidRequest: nothing is said.
        Unimplemented: it cannot be unpacked.
    """
    if encoding in (b"", b"identity"):
        raise InvalidRequest("the message is flagged as compressed, and no header grpc-encoding says how")
    if encoding not in _WINDOW_BITS:
        raise Unimplemented(
            f"grpc-encoding is {encoding.decode(errors='replace')[:40]}; this server takes identity, gzip and deflate"
        )


def unpack(packed: bytes, encoding: bytes, max_bytes: int, reserve: Callable[[int], object] = lambda _: None) -> bytes:
    """Returns a compressed message as it was; holds no more than `max_bytes` of it.

    Args:
        packed: the compressed message.
        encoding: what it is compressed by.
        max_bytes: most bytes that it may have.
        reserve: is called with the size of each piece before it is kept; what it raises ends this.

    Raises:
        InvalidRequest: it is not in that encoding.
        TooLarge: it has more bytes than that.
    """
    unpacker, message, start, rest = zlib.decompressobj(_WINDOW_BITS[encoding]), io.BytesIO(), 0, b""
    try:
        for start in range(0, len(packed), _STEP_BYTES):
            rest, piece = packed[start : start + _STEP_BYTES], b""
            while (rest or len(piece) == _PIECE_BYTES) and not unpacker.eof:
                piece = unpacker.decompress(rest, _PIECE_BYTES)
                rest = unpacker.unconsumed_tail
                if message.tell() + len(piece) > max_bytes:
                    raise TooLarge
                reserve(len(piece))
                message.write(piece)
            if unpacker.eof:
                break
    except zlib.error as error:
        raise InvalidRequest(f"grpc-encoding is {encoding.decode()} and the message is not: {error}") from error
    if not unpacker.eof or unpacker.unused_data or rest or start + _STEP_BYTES < len(packed):
        raise InvalidRequest(f"the {encoding.decode()} message is cut off, or has more behind its end")
    return message.getvalue()


def trailers(status: Status) -> Headers:
    """Returns the headers that end a call with a status other than OK."""
    found = [(b"grpc-status", b"%d" % status.code.value[0])]
    if status.message:
        found.append((b"grpc-message", quote(status.message, safe=_PLAIN).encode()))
    return found + encoded_metadata(status.trailing)


def encoded_metadata(metadata: Iterable[tuple[str, str]]) -> Headers:
    """Returns metadata as headers."""
    return [(key.encode(), value.encode()) for key, value in metadata]


def metadata(headers: Headers) -> Iterator[tuple[str, str | bytes]]:
    """Yields what the caller sent beside the request; values of keys that end in -bin as bytes."""
    for key, value in headers:
        if key in _OWN_KEYS:
            continue
        name = key.decode("latin-1")
        if not name.endswith("-bin"):
            yield name, value.decode("latin-1")
            continue
        for part in value.split(b","):
            yield name, _from_base64(part.strip())


def _from_base64(text: bytes) -> bytes:
    try:
        # Clients leave out the signs that fill up.
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return text
