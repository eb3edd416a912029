"""From a method's name to its handler, and from an error to an answer."""

from collections.abc import Callable
from typing import Any

import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve.tokens import Scope, Token, digest_of
from pixelserve_server.access.authorizer import Authorizer
from pixelserve_server.api.admission import Admission, FailureCounts
from pixelserve_server.api.call import Call
from pixelserve_server.api.codes import StatusCode
from pixelserve_server.api.dispatch import CallGuard, Dispatcher
from pixelserve_server.api.status import CallStatus
from pixelserve_server.errors import InvalidRequest, NotFound

METHOD = "/inference.GRPCInferenceService/ModelInfer"


class Log:
    """Keeps the failures that it is given."""

    def __init__(self) -> None:
        self.failures: list[tuple[BaseException, str]] = []

    def __call__(self, error: BaseException) -> str:
        self.failures.append((error, f"id-{len(self.failures)}"))
        return self.failures[-1][1]


def dispatching(handlers: dict[str, Any], log: Log, max_bytes: int = 1000) -> Dispatcher:
    return Dispatcher(handlers, Admission(max_bytes), CallGuard(log))


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
    assert (status.code, status.message) == (StatusCode.NOT_FOUND, "no model")
    assert (call.replies, log.failures) == ([], [])


@pytest.mark.parametrize("error", [ValueError("secret"), KeyError("secret"), MemoryError("secret")], ids=repr)
def test_an_unexpected_error_is_answered_internal_and_logged_under_the_same_id(
    recorded_call: Callable[..., Any], error: Exception
) -> None:
    log, call = Log(), recorded_call()
    dispatching({METHOD: raising(error)}, log).handle(METHOD, b"", call)
    (status,) = call.failures
    ((logged, request_id),) = log.failures
    assert status.code is StatusCode.INTERNAL
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


def test_calls_that_fail_are_counted_by_method_code_and_reason(recorded_call: Callable[..., Any]) -> None:
    counts = FailureCounts()

    def handle(message: bytes, call: Call) -> None:
        if message == b"wrong":
            raise InvalidRequest("as it was told")
        call.reply(b"")

    dispatcher = Dispatcher({METHOD: handle}, Admission(10), CallGuard(str), counts)
    for message in (b"right", b"wrong", b"wrong"):
        dispatcher.handle(METHOD, message, recorded_call())
    busy = recorded_call()
    dispatcher._admission.admit(busy, 9)
    dispatcher.handle(METHOD, b"wrong", recorded_call())
    dispatcher.refuse(METHOD, recorded_call(), CallStatus(StatusCode.RESOURCE_EXHAUSTED, "", reason="too_large"))
    assert counts.read() == {
        (METHOD, "INVALID_ARGUMENT", "invalid_request"): 2,
        (METHOD, "RESOURCE_EXHAUSTED", "queue_full"): 1,
        (METHOD, "RESOURCE_EXHAUSTED", "too_large"): 1,
    }
    assert dispatcher._admission.replies == {METHOD: 1}


def test_calls_that_arrive_together_are_handled_in_order_and_one_that_fails_costs_no_other(
    recorded_call: Callable[..., Any],
) -> None:
    log, handled = Log(), []

    def handle(message: bytes, call: Call) -> None:
        handled.append(message)
        if message == b"bad":
            raise ValueError("secret")
        call.reply(message)

    calls = [recorded_call() for _ in range(3)]
    messages = [b"first", b"bad", b"last"]
    dispatching({METHOD: handle}, log).handle_all([(METHOD, *each) for each in zip(messages, calls, strict=True)])
    assert handled == messages
    assert [call.replies for call in calls] == [[b"first"], [], [b"last"]]
    assert [len(call.failures) for call in calls] == [0, 1, 0]


def test_a_refused_token_costs_its_call_and_nothing_is_admitted_or_handled(recorded_call: Callable[..., Any]) -> None:
    admission, counts, call = Admission(1000), FailureCounts(), recorded_call()
    handlers = {METHOD: raising(AssertionError("it must not be handled"))}
    Dispatcher(handlers, admission, CallGuard(Log()), counts, authorizer=Authorizer([])).handle(METHOD, b"abc", call)
    (status,) = call.failures
    assert status.code is StatusCode.UNAUTHENTICATED
    assert counts.read() == {(METHOD, "UNAUTHENTICATED", "unauthenticated"): 1}
    assert admission.drain(0) == 0


def test_a_call_knows_whose_token_it_came_with(recorded_call: Callable[..., Any]) -> None:
    call = recorded_call()
    call.metadata = lambda: [("authorization", "Bearer secret")]
    token = Token(digest_of("secret"), "shop", frozenset({Scope.INFER}), frozenset({"m"}))
    authorizer = Authorizer([token])
    dispatcher = Dispatcher(
        {METHOD: lambda message, call: call.reply(message)}, Admission(1000), CallGuard(Log()), authorizer=authorizer
    )
    message = pb.ModelInferRequest(model_name="m").SerializeToString()
    dispatcher.handle(METHOD, message, call)
    assert (call.replies, call.principal.name) == ([message], "shop")
    assert (call.may_see("m"), call.may_see("other")) == (True, False)
    assert recorded_call().may_see("other")


def test_calls_are_kept_until_they_are_released_and_probes_are_not(recorded_call: Callable[..., Any]) -> None:
    calls = [recorded_call() for _ in range(5)]
    answer = lambda message, call: call.reply(message)  # noqa: E731
    dispatcher = Dispatcher({METHOD: answer}, Admission(1000), CallGuard(Log()), probes={"/health": answer})
    held = dispatcher.hold(2)
    dispatcher.handle("/health", b"probe", calls[0])
    assert calls[0].replies == [b"probe"]
    dispatcher.handle(METHOD, b"1", calls[1])
    # The third is one too many.
    dispatcher.handle_all([(METHOD, b"2", calls[2]), (METHOD, b"3", calls[3])])
    assert [call.replies for call in calls[1:4]] == [[], [], [b"3"]]
    assert held.wait_until_quiet(3600, 3600) == 2
    dispatcher.release(held)
    assert [call.replies for call in calls[1:4]] == [[b"1"], [b"2"], [b"3"]]
    dispatcher.handle_all([(METHOD, b"4", calls[4])])
    assert calls[4].replies == [b"4"]


def test_waiting_for_quiet_ends_when_no_other_call_comes_or_the_time_is_over(recorded_call: Callable[..., Any]) -> None:
    held = dispatching({METHOD: raising(KeyError())}, Log()).hold(2)
    # A client that has sent nothing yet may only be slow.
    assert held.wait_until_quiet(0, 0.01) == 0
    held.take(METHOD, b"", recorded_call())
    assert held.wait_until_quiet(0, 3600) == 1
    assert held.wait_until_quiet(3600, 0.01) == 1


@pytest.mark.parametrize("together", [False, True])
def test_a_calls_sender_is_its_token_and_without_one_its_connection(
    recorded_call: Callable[..., Any], together: bool
) -> None:
    token = Token(digest_of("ps_secret"), "reader", frozenset(Scope))
    for authorizer, sender in ((None, "a connection"), (Authorizer([token]), "reader")):
        calls = [recorded_call() for _ in range(1 + together)]
        for call in calls:
            call.sender = "a connection"
            call.metadata = lambda: [("authorization", "Bearer ps_secret")]
        dispatcher = Dispatcher(
            {METHOD: lambda message, call: call.reply(b"")}, Admission(1000), CallGuard(Log()), authorizer=authorizer
        )
        dispatcher.handle_all([(METHOD, b"", call) for call in calls])
        assert [call.sender for call in calls] == [sender] * len(calls)
