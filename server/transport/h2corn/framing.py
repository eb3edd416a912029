"""gRPC over HTTP/2 (protocol: grpc/doc/PROTOCOL-HTTP2.md): frames of messages, time-outs, compression, statuses."""

import base64
import binascii
import functools
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from ...api.codes import StatusCode
from ...api.status import CallStatus
from ...api.unpacking import WINDOW_BITS
from ...errors import InvalidRequest, Unimplemented

PREFIX_BYTES = 5
"""A message's prefix: whether it is compressed, and its size."""

Headers = list[tuple[bytes, bytes]]

RESPONSE_HEADERS: Headers = [
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity,deflate,gzip"),
]

_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}

# The time an answer may take to the caller.
_TRAVEL_S = 0.005

# All printable characters except the escape character.
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")

# Of the transport, not the caller.
_OWN_KEYS = frozenset((b"te", b"content-type", b"host", b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding"))


def too_large(size_bytes: int, max_bytes: int) -> CallStatus:
    """Returns the status of a call with a message of that size."""
    return CallStatus(
        StatusCode.RESOURCE_EXHAUSTED,
        f"the message has {size_bytes:,} bytes; at most {max_bytes:,} are accepted (--max-message-mib)",
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


# Clients repeat a few values.
@functools.lru_cache(maxsize=1024)
def answerable_s(value: bytes) -> float:
    """Reads a grpc-timeout header; returns how long an answer may take to reach the caller in time.

    This is a little less than the caller's timeout, so it gets a status before it gives up: if it reset every late
    call, h2corn would treat it as an attacker and end its connection (at more than 200 resets in ten seconds).

    Raises:
        InvalidRequest: it is not one to eight digits and a unit.
    """
    whole_s = timeout_s(value)
    return whole_s - min(_TRAVEL_S, whole_s / 10)


def prefix(message: bytes) -> bytes:
    """Returns the prefix of an uncompressed message."""
    # The first of the five bytes is the flag for compression.
    return len(message).to_bytes(PREFIX_BYTES, "big")


def check_encoding(encoding: bytes) -> None:
    """Checks the encoding of compressed messages.

    Raises:
        InvalidRequest: it is missing.
        Unimplemented: it is not supported.
    """
    if encoding in (b"", b"identity"):
        raise InvalidRequest("the message is flagged as compressed, and no header grpc-encoding says how")
    if encoding.decode(errors="replace") not in WINDOW_BITS:
        raise Unimplemented(
            f"grpc-encoding is {encoding.decode(errors='replace')[:40]}; this server takes identity, gzip and deflate"
        )


def trailers(status: CallStatus) -> Headers:
    """Returns the headers that end a call with a status other than OK."""
    found = [(b"grpc-status", b"%d" % status.code.value)]
    if status.message:
        found.append((b"grpc-message", quote(status.message, safe=_PLAIN).encode()))
    return found + encoded_metadata(status.trailing)


def encoded_metadata(metadata: Iterable[tuple[str, str]]) -> Headers:
    """Returns metadata as headers."""
    return [(key.encode(), value.encode()) for key, value in metadata]


def metadata(headers: Headers) -> Iterator[tuple[str, str | bytes]]:
    """Yields the caller's metadata; values of keys ending in -bin as bytes."""
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
        # Clients omit base64 padding.
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return text
