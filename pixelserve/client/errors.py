"""All errors of the client, by cause.

    PixelServeClientError           exit code 1
    ├── SettingsError               2: caller error: invalid arguments of a client
    ├── ClosedError                 1: caller error: the client was closed
    ├── PictureError                1: one picture cannot be read; the others are fine
    └── CallError                   a call ended with a status other than OK
        ├── RequestRefused          4: caller error: the same call will fail again
        │   ├── InvalidRequest      the request is wrong
        │   ├── NotFound            no such model or version
        │   ├── Unauthenticated     the token or the certificate is missing or not accepted
        │   ├── PermissionDenied    the token or the certificate does not allow this
        │   └── Unimplemented       the server does not serve this method
        ├── NotNow                  5: temporary: another time or another server may answer
        │   ├── Unavailable         the server is unreachable or draining, or the version is not ready
        │   ├── ResourceExhausted   a queue is full, or the message is larger than the server accepts
        │   ├── DeadlineExceeded    the caller's timeout has passed
        │   └── Cancelled           the call was cancelled
        └── ServerFailed            6: the server or the network failed
            └── InternalError       server error; its log has the details

`exit_code` is the exit code of the `pixelserve` command. A status that the server never sends (a proxy may) becomes the
matching parent, so `RequestRefused`, `NotNow` and `ServerFailed` cover everything.
"""

from typing import ClassVar

import grpc


class PixelServeClientError(Exception):
    """Base class of the client's errors."""

    exit_code: ClassVar[int] = 1


class SettingsError(PixelServeClientError, ValueError):
    """Caller error: invalid argument; the message names it."""

    exit_code = 2


class ClosedError(PixelServeClientError):
    """Caller error: the client was closed, before or during the call."""


# The message of ClosedError.
CLOSED = "the client has been closed"


class PictureError(PixelServeClientError):
    """A picture could not be read, by the client or the server."""

    def __init__(self, message: str, source: str | None = None) -> None:
        super().__init__(f"{source}: {message}" if source else message)
        self.message = message
        """What is wrong with the picture."""
        self.source = source
        """The picture's path, or None if it is not from a file."""


class CallError(PixelServeClientError):
    """A call ended with a status other than OK."""

    remedy: ClassVar[str] = ""
    """The remedy for failures detected by gRPC; servers' messages include their own."""
    marks: ClassVar[tuple[str, ...]] = ()
    """Texts that identify gRPC's own messages for this status."""

    def __init__(
        self, code: grpc.StatusCode, message: str, *, address: str = "", attempts: int = 1, proxy: str = ""
    ) -> None:
        self.code = code
        """The gRPC status."""
        self.message = message
        """The message from the server or gRPC."""
        self.address = address
        """The address of the last attempt, as given to the client."""
        self.attempts = attempts
        """The number of attempts."""
        self.proxy = proxy
        """The environment variable of the proxy that gRPC may have used, or empty."""
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        parts = [f"{self.address}: " if self.address else "", f"{self.code.name}: ", self.message or "no details"]
        if self.attempts > 1:
            parts.append(f" (after {self.attempts} attempts)")
        if any(mark in self.message for mark in self.marks):
            if self.proxy:
                parts.append(f"; {self.proxy} is set, so gRPC used that proxy unless no_proxy lists the server's host")
            parts.append(f"; {self.remedy}")
        return "".join(parts)


class RequestRefused(CallError):
    """Caller error: the same call will fail again."""

    exit_code = 4


class InvalidRequest(RequestRefused):
    """Caller error: invalid request; the message says why."""


class NotFound(RequestRefused):
    """Caller error: the server has no such model or version."""


class Unauthenticated(RequestRefused):
    """Caller error: the token or the certificate is missing or not accepted."""


class PermissionDenied(RequestRefused):
    """Caller error: the token or the certificate does not allow this call."""


class Unimplemented(RequestRefused):
    """Caller error: the server does not serve this method; it may be a different server, or an older one."""


class NotNow(CallError):
    """Temporary: another time or another server may answer."""

    exit_code = 5


class Unavailable(NotNow):
    """Temporary: the server is unreachable or draining, or the version is not ready."""

    remedy = "is a server running there, and does it require TLS?"
    marks = ("failed to connect", "last error:", "errors resolving")


class ResourceExhausted(NotNow):
    """Temporary: a queue is full, or the message is larger than the server accepts."""

    remedy = "send fewer or smaller pictures at once"
    marks = ("message larger",)


class DeadlineExceeded(NotNow):
    """Temporary: the caller's timeout has passed, including attempts and waits."""

    remedy = "allow more time with timeout_s"
    marks = ("Deadline Exceeded",)


class Cancelled(NotNow):
    """Temporary: the call was cancelled, by the server or because its answer is no longer needed."""


class ServerFailed(CallError):
    """The server or the network failed."""

    exit_code = 6


class InternalError(ServerFailed):
    """Server error: its log has the details under the id in the message."""


CLASSES: dict[grpc.StatusCode, type[CallError]] = {
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNKNOWN: ServerFailed,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: RequestRefused,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.FAILED_PRECONDITION: RequestRefused,
    grpc.StatusCode.ABORTED: NotNow,
    grpc.StatusCode.OUT_OF_RANGE: RequestRefused,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.INTERNAL: InternalError,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DATA_LOSS: ServerFailed,
}


def error_for(
    code: grpc.StatusCode, message: str, *, address: str = "", attempts: int = 1, proxy: str = ""
) -> CallError:
    """Returns the error for a status."""
    # A status code of a newer gRPC.
    kind = CLASSES.get(code, ServerFailed)
    return kind(code, message, address=address, attempts=attempts, proxy=proxy)
