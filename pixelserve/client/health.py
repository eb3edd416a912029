"""grpc.health.v1 without its library, which the client does not depend on.

Its two messages have one field each, numbered 1: a string, and an enumeration, encoded as an integer. On the wire they
equal protobuf's StringValue and Int32Value, so no definition is needed that could collide with the library's.
https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from .errors import CallError

SERVICE_UNKNOWN = "SERVICE_UNKNOWN"
_STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: SERVICE_UNKNOWN}


def request(service: str) -> StringValue:
    """Returns a HealthCheckRequest."""
    return StringValue(value=service)


def status_of(response: Int32Value) -> str:
    """Returns the status in a HealthCheckResponse."""
    return _STATUSES.get(response.value, "UNKNOWN")


def status_of_failure(error: CallError) -> str:
    """Returns the status of a failed check: servers answer NOT_FOUND for an unknown service.

    Raises:
        CallError: the error has no such status.
    """
    if error.code is not grpc.StatusCode.NOT_FOUND:
        raise error
    return SERVICE_UNKNOWN
