"""What an error becomes on the wire: one table."""

import functools
import math
import re
from dataclasses import dataclass, replace

import grpc

from ..errors import (
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    QueueFull,
    RateExceeded,
    RequestError,
    TooManyStreams,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Unloading,
)

CODES: dict[type[RequestError], grpc.StatusCode] = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    RateExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    Unloading: grpc.StatusCode.UNAVAILABLE,
    QueueFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    TooManyStreams: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    Cancelled: grpc.StatusCode.CANCELLED,
    Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    InternalError: grpc.StatusCode.INTERNAL,
}

# queue_full for QueueFull.
_REASONS = {kind: re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() for kind in CODES}

# Triton has one status for all that may go better another time.
_TRITON_CODES = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: grpc.StatusCode.UNAVAILABLE,
}

# A message travels as a header, up to three bytes for one; clients refuse all headers together above 8 KiB.
_MAX_MESSAGE_BYTES = 2000

# Milliseconds after which a client that retries may come back to a full queue: a few batches' time.
_PUSHBACK_MS = 20


@dataclass(frozen=True)
class Status:
    """How a call ended; but for `OK`, without a result."""

    code: grpc.StatusCode
    """The status code."""
    message: str
    """For people: what was expected, what came, what to do."""
    trailing: tuple[tuple[str, str], ...] = ()
    """Trailing metadata."""
    reason: str = ""
    """What went wrong, for counting: the error's kind, such as queue_full."""


OK = Status(grpc.StatusCode.OK, "")
"""What a call that got a result ends with."""


def status_of(error: RequestError) -> Status:
    """Returns what the caller gets for an error."""
    kind = type(error)
    if isinstance(error, RateExceeded):
        trailing = _after(error.retry_after_s)
    else:
        trailing = _pushback(_PUSHBACK_MS) if isinstance(error, QueueFull) else ()
    return _status(CODES[kind], _REASONS[kind], _shortened(str(error)), trailing)


# Under an overload the same refusal is sent thousands of times a second. Messages are shortened before they come here:
# 256 are kept, and a client's own words can be in them.
@functools.lru_cache(maxsize=256)
def _status(code: grpc.StatusCode, reason: str, message: str, trailing: tuple[tuple[str, str], ...]) -> Status:
    return Status(code, message, trailing, reason)


def _after(wait_s: float) -> tuple[tuple[str, str], ...]:
    """Returns when the caller may come back."""
    return *_pushback(math.ceil(wait_s * 1000)), ("retry-after", str(math.ceil(wait_s)))


def _pushback(wait_ms: int) -> tuple[tuple[str, str], ...]:
    # gRPC's own key; and one that a transport can carry which keeps gRPC's keys to itself.
    return ("grpc-retry-pushback-ms", str(wait_ms)), ("retry-pushback-ms", str(wait_ms))


def as_triton(status: Status) -> Status:
    """Returns a status with the code that Triton gives: UNAVAILABLE for a full queue and for a deadline that passed."""
    return replace(status, code=_TRITON_CODES.get(status.code, status.code))


def _shortened(message: str) -> str:
    # Four bytes a character at the most.
    if len(message) <= _MAX_MESSAGE_BYTES // 4:
        return message
    encoded = message.encode(errors="replace")
    if len(encoded) <= _MAX_MESSAGE_BYTES:
        return message
    return encoded[:_MAX_MESSAGE_BYTES].decode(errors="ignore") + "…"
