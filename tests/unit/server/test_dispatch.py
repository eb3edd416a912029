"""From a method's name to its handler, and from what goes wrong to an answer."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from pixelserve_server.api.admission import Admission
from pixelserve_server.api.dispatch import Dispatcher, Guard
from pixelserve_server.errors import NotFound

METHOD = "/inference.GRPCInferenceService/ModelInfer"


class Log:
    """Keeps the failures that it is given."""

    def __init__(self) -> None:
        self.failures: list[tuple[BaseException, str]] = []

    def __call__(self, error: BaseException) -> str:
        self.failures.append((error, f"id-{len(self.failures)}"))
        return self.failures[-1][1]


def dispatching(handlers: dict[str, Any], log: Log, max_bytes: int = 1000) -> Dispatcher:
    return Dispatcher(handlers, Admission(max_bytes), Guard(log))


def raising(error: BaseException) -> Callable[..., None]:
    def handle(message: bytes, call: Any) -> None:
        raise error

    return handle


def test_a_call_goes_to_its_methods_handler(recorded_call: Callable[..., Any]) -> None:
    log, call = Log(), recorded_call()
    dispatcher = dispatching({METHOD: lambda message, call: call.reply(message[::-1])}, log)
    dispatcher.handle(METHOD, b"abc", call)
    assert (call.replies, call.failures, log.failures) == ([b"cba"], [], [])


def test_only_methods_with_a_handler_are_served() -> None:
    dispatcher = dispatching({METHOD: raising(KeyError())}, Log())
    assert dispatcher.serves(METHOD)
    assert not dispatcher.serves("/inference.GRPCInferenceService/ModelInfers")


def test_a_request_error_is_answered_with_its_status_and_not_logged(recorded_call: Callable[..., Any]) -> None:
    log, call = Log(), recorded_call()
    dispatching({METHOD: raising(NotFound("no model"))}, log).handle(METHOD, b"", call)
    (status,) = call.failures
    assert (status.code, status.message) == (grpc.StatusCode.NOT_FOUND, "no model")
    assert (call.replies, log.failures) == ([], [])


@pytest.mark.parametrize("error", [ValueError("secret"), KeyError("secret"), MemoryError("secret")], ids=repr)
def test_an_unexpected_error_is_answered_internal_and_logged_under_the_same_id(
    recorded_call: Callable[..., Any], error: Exception
) -> None:
    log, call = Log(), recorded_call()
    dispatching({METHOD: raising(error)}, log).handle(METHOD, b"", call)
    (status,) = call.failures
    ((logged, request_id),) = log.failures
    assert status.code is grpc.StatusCode.INTERNAL
    assert status.message.startswith("internal error")
    assert status.message.endswith(request_id)
    assert "secret" not in status.message
    assert logged is error


def test_two_unexpected_errors_have_two_ids(recorded_call: Callable[..., Any]) -> None:
    log = Log()
    dispatcher = dispatching({METHOD: raising(ValueError())}, log)
    for _ in range(2):
        dispatcher.handle(METHOD, b"", recorded_call())
    assert len({request_id for _, request_id in log.failures}) == 2
