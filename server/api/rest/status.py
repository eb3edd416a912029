"""Maps gRPC statuses to HTTP in one table; also HTTP's own errors."""

from collections.abc import Mapping

from ..codes import StatusCode
from ..status import CallStatus

HTTP_STATUS: dict[StatusCode, int] = {
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    # No one receives it, because the caller has left. The code is nginx's.
    StatusCode.CANCELLED: 499,
    StatusCode.INTERNAL: 500,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DEADLINE_EXCEEDED: 504,
}


_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="pixelserve"'}


class HttpError(Exception):
    """A request is answered with an HTTP status other than 200."""

    def __init__(
        self, status: int, message: str, headers: Mapping[str, str] | None = None, *, is_of_call: bool = False
    ) -> None:
        """Creates the error.

        Args:
            status: the HTTP status.
            message: for people.
            headers: further headers.
            is_of_call: whether it answers a gRPC method, which the dispatcher has counted; otherwise it is HTTP's own.
        """
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})
        self.is_of_call = is_of_call


class CallerLeft(Exception):
    """The caller closed its connection before it was answered."""


def http_error(status: CallStatus, *, is_of_call: bool = False) -> HttpError:
    """Converts a gRPC status other than OK to an HTTP error; `is_of_call` as in HttpError."""
    # Keys starting with grpc- are only for gRPC clients.
    headers = {key: value for key, value in status.trailing if not key.startswith("grpc-")}
    if status.code is StatusCode.UNAUTHENTICATED:
        headers |= _CHALLENGE
    return HttpError(HTTP_STATUS[status.code], status.message, headers, is_of_call=is_of_call)


def too_large(what: str, max_bytes: int, setting: str, advice: str = "") -> HttpError:
    """Returns the error for a body, or a part of one, that exceeds a setting."""
    return HttpError(413, f"{what} has more than {max_bytes:,} bytes, the maximum ({setting}){advice}")
