"""Everything that can go wrong for a client, by whose fault it is.

    PixelServeClientError           exit code 1
    ├── SettingsError               2: the caller's: a client cannot be built from these arguments
    ├── ClosedError                 1: the caller's: the client has been closed
    ├── PictureError                1: one picture's: it cannot be read; the others are fine
    └── CallError                   a call ended with another status than OK
        ├── RequestRefused          4: the caller's: the same call will fail again
        │   ├── InvalidRequest      the request is wrong
        │   ├── NotFound            no such model or version
        │   ├── Unauthenticated     the token or the certificate is missing or not accepted
        │   ├── PermissionDenied    the token or the certificate does not allow this
        │   └── Unimplemented       the server does not serve this method
        ├── NotNow                  5: nobody's: another time or another server may answer
        │   ├── Unavailable         no server there, or one that is draining, or a version that is not ready
        │   ├── ResourceExhausted   a queue is full, or the message is larger than the server takes
        │   ├── DeadlineExceeded    the time that the caller allowed has passed
        │   └── Cancelled           the call was cancelled
        └── ServerFailed            6: the server's, or that of something between
            └── InternalError       the server's; its log has the details

`exit_code` is what the `pixelserve` command exits with. A status that the server never gives (a proxy may) becomes the
parent that fits, so that catching `RequestRefused`, `NotNow` and `ServerFailed` catches everything.
"""

from typing import ClassVar

import grpc


class PixelServeClientError(Exception):
    """Base of all errors that the client raises on purpose."""

    exit_code: ClassVar[int] = 1


class SettingsError(PixelServeClientError, ValueError):
    """The caller's fault: a client cannot be built from these arguments; the message names the argument."""

    exit_code = 2


class ClosedError(PixelServeClientError):
    """The caller's fault: the client has been closed, before the call or during it."""


# The message of ClosedError.
CLOSED = "the client has been closed"


class PictureError(PixelServeClientError):
    """One picture's fault: it could not be read, here or by the server."""

    def __init__(self, message: str, source: str | None = None) -> None:
        super().__init__(f"{source}: {message}" if source else message)
        self.message = message
        """What was wrong with the picture."""
        self.source = source
        """The picture's path; None where it did not come from a file."""


class CallError(PixelServeClientError):
    """A call ended with another status than OK."""

    remedy: ClassVar[str] = ""
    """What the caller can do where gRPC has found the failure, and not a server, which would say so itself."""
    marks: ClassVar[tuple[str, ...]] = ()
    """By what gRPC's own messages of this status are known."""

    def __init__(
        self, code: grpc.StatusCode, message: str, *, address: str = "", attempts: int = 1, proxy: str = ""
    ) -> None:
        self.code = code
        """The gRPC status."""
        self.message = message
        """What the server, or gRPC, said."""
        self.address = address
        """Where the last attempt went, as the client was given it."""
        self.attempts = attempts
        """How often the call was tried."""
        self.proxy = proxy
        """The environment variable whose proxy gRPC may have asked; empty: none."""
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        parts = [f"{self.address}: " if self.address else "", f"{self.code.name}: ", self.message or "no details"]
        if self.attempts > 1:
            parts.append(f" (after {self.attempts} attempts)")
        if any(mark in self.message for mark in self.marks):
            if self.proxy:
                parts.append(f"; {self.proxy} is set, so gRPC asked that proxy unless no_proxy lists the server's host")
            parts.append(f"; {self.remedy}")
        return "".join(parts)


class RequestRefused(CallError):
    """The caller's fault: the same call will fail again."""

    exit_code = 4


class InvalidRequest(RequestRefused):
    """The caller's fault: the request is wrong, and the message says how."""


class NotFound(RequestRefused):
    """The caller's fault: the server has no such model or version."""


class Unauthenticated(RequestRefused):
    """The caller's fault: the token or the certificate is missing or not accepted."""


class PermissionDenied(RequestRefused):
    """The caller's fault: the token or the certificate does not allow this call."""


class Unimplemented(RequestRefused):
    """The caller's fault: the server does not serve this method; it may be another server, or an older one."""


class NotNow(CallError):
    """Nobody's fault: another time or another server may answer."""

    exit_code = 5


class Unavailable(NotNow):
    """Nobody's fault: no server is there, or it is draining, or the version is not ready."""

    remedy = "is a server running there, and does it require TLS?"
    marks = ("failed to connect", "last error:", "errors resolving")


class ResourceExhausted(NotNow):
    """Nobody's fault: a queue is full, or the message is larger than the server takes."""

    remedy = "send fewer or smaller pictures at once"
    marks = ("message larger",)


class DeadlineExceeded(NotNow):
    """Nobody's fault: the time that the caller allowed has passed, attempts and waits included."""

    remedy = "allow more time with timeout_s"
    marks = ("Deadline Exceeded",)


class Cancelled(NotNow):
    """Nobody's fault: the call was cancelled, by the server or because nobody wants its answer any more."""


class ServerFailed(CallError):
    """The fault of the server, or of something between it and the client."""

    exit_code = 6


class InternalError(ServerFailed):
    """The server's fault: its log has the details under the id in the message."""


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
    """Returns the error that a status becomes."""
    # A code of a later gRPC than this client knows.
    kind = CLASSES.get(code, ServerFailed)
    return kind(code, message, address=address, attempts=attempts, proxy=proxy)
