"""The table of gRPC statuses for errors."""

import functools
import math
import re
from dataclasses import dataclass, replace

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
from .codes import StatusCode

CODES: dict[type[RequestError], StatusCode] = {
    InvalidRequest: StatusCode.INVALID_ARGUMENT,
    NotFound: StatusCode.NOT_FOUND,
    AlreadyExists: StatusCode.ALREADY_EXISTS,
    Unauthenticated: StatusCode.UNAUTHENTICATED,
    PermissionDenied: StatusCode.PERMISSION_DENIED,
    RateExceeded: StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: StatusCode.UNAVAILABLE,
    Unloading: StatusCode.UNAVAILABLE,
    QueueFull: StatusCode.RESOURCE_EXHAUSTED,
    Overloaded: StatusCode.RESOURCE_EXHAUSTED,
    TooManyStreams: StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    Cancelled: StatusCode.CANCELLED,
    Unimplemented: StatusCode.UNIMPLEMENTED,
    InternalError: StatusCode.INTERNAL,
}

# For example queue_full for QueueFull.
_REASONS = {kind: re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() for kind in CODES}

# Triton has one status for everything worth a retry.
_TRITON_CODES = {
    StatusCode.RESOURCE_EXHAUSTED: StatusCode.UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED: StatusCode.UNAVAILABLE,
}

# A message is sent as a header, with up to three bytes per byte; clients refuse more than 8 KiB of headers.
_MAX_MESSAGE_BYTES = 2000

# Milliseconds before a client may retry after a full queue: a few batches' time.
_PUSHBACK_MS = 20


@dataclass(frozen=True)
class CallStatus:
    """The status of a call; without a result unless it is `OK`."""

    code: StatusCode
    """The status code."""
    message: str
    """For people: what happened, what was expected, what to do."""
    trailing: tuple[tuple[str, str], ...] = ()
    """Trailing metadata."""
    reason: str = ""
    """The kind of error, for counting, such as queue_full."""


OK = CallStatus(StatusCode.OK, "")
"""The status of a successful call."""


def status_of(error: RequestError) -> CallStatus:
    """Returns the caller's status for an error."""
    kind = type(error)
    if isinstance(error, RateExceeded):
        trailing = _after(error.retry_after_s)
    else:
        trailing = _pushback(_PUSHBACK_MS) if isinstance(error, QueueFull) else ()
    return _status(CODES[kind], _REASONS[kind], _shortened(str(error)), trailing)


# Under overload the same refusal is sent thousands of times per second. Messages are shortened before they come here:
# 256 are kept, and they may contain a client's words.
@functools.lru_cache(maxsize=256)
def _status(code: StatusCode, reason: str, message: str, trailing: tuple[tuple[str, str], ...]) -> CallStatus:
    return CallStatus(code, message, trailing, reason)


def _after(wait_s: float) -> tuple[tuple[str, str], ...]:
    """Returns the metadata that tells when to retry."""
    return *_pushback(math.ceil(wait_s * 1000)), ("retry-after", str(math.ceil(wait_s)))


def _pushback(wait_ms: int) -> tuple[tuple[str, str], ...]:
    # gRPC's own key, and another for transports that reserve gRPC's keys.
    return ("grpc-retry-pushback-ms", str(wait_ms)), ("retry-pushback-ms", str(wait_ms))


def as_triton(status: CallStatus) -> CallStatus:
    """Returns a status with Triton's code: UNAVAILABLE for a full queue and for a passed deadline."""
    return replace(status, code=_TRITON_CODES.get(status.code, status.code))


def _shortened(message: str) -> str:
    # At most four bytes per character.
    if len(message) <= _MAX_MESSAGE_BYTES // 4:
        return message
    encoded = message.encode(errors="replace")
    if len(encoded) <= _MAX_MESSAGE_BYTES:
        return message
    return encoded[:_MAX_MESSAGE_BYTES].decode(errors="ignore") + "…"
