"""What a gRPC status becomes over HTTP: one table; and what can be wrong with HTTP alone."""

from collections.abc import Mapping

import grpc

from ..status import Status

HTTP_STATUS: dict[grpc.StatusCode, int] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    # Nobody reads it: the caller has left. The number is nginx's.
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="pixelserve"'}


class HttpError(Exception):
    """A request that gets an HTTP status other than 200 for an answer."""

    def __init__(
        self, status: int, message: str, headers: Mapping[str, str] | None = None, *, is_of_call: bool = False
    ) -> None:
        """Takes what the caller gets.

        Args:
            status: the HTTP status.
            message: for people.
            headers: further headers.
            is_of_call: whether it is the answer of a gRPC method, which the dispatcher has counted; otherwise HTTP's
                own.
        """
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})
        self.is_of_call = is_of_call


class CallerLeft(Exception):
    """The caller closed its connection before it was answered."""


def http_error(status: Status, *, is_of_call: bool = False) -> HttpError:
    """Returns what a gRPC status other than OK is over HTTP; `is_of_call` as HttpError says."""
    # Keys that begin with grpc- mean something to gRPC's clients only.
    headers = {key: value for key, value in status.trailing if not key.startswith("grpc-")}
    if status.code is grpc.StatusCode.UNAUTHENTICATED:
        headers |= _CHALLENGE
    return HttpError(HTTP_STATUS[status.code], status.message, headers, is_of_call=is_of_call)


def too_large(what: str, max_bytes: int, setting: str, advice: str = "") -> HttpError:
    """Returns the error of a body, or a part of one, that is larger than a setting allows."""
    return HttpError(413, f"{what} has more than {max_bytes:,} bytes, the most that are taken ({setting}){advice}")
