"""Calls that arrive together: each is admitted, refused, counted and handled as if alone."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from pixelserve_server.api.admission import Admission, FailureCounts
from pixelserve_server.api.call import Arrival, Call
from pixelserve_server.api.call_observer import CallObserver
from pixelserve_server.api.codes import StatusCode
from pixelserve_server.api.dispatch import CallGuard, Dispatcher
from pixelserve_server.api.status import CallStatus
from pixelserve_server.errors import NotFound, PermissionDenied
from pixelserve_server.observe.access_log import AccessLog

TOGETHER, APART = "/service/Together", "/service/Apart"


class Handler:
    """Keeps calls, alone or in groups."""

    def __init__(self) -> None:
        self.handled: list[list[bytes]] = []

    def __call__(self, message: bytes, call: Call) -> None:
        self.handled.append([message])

    def handle_all(self, arrivals: Sequence[Arrival], fail: Callable[[Call, Exception], None]) -> None:
        self.handled.append([message for _, message, _ in arrivals])
        for _, message, call in arrivals:
            if message == b"bad":
                fail(call, NotFound("no"))


class Server:
    """A dispatcher of two methods, one of which takes groups."""

    def __init__(self, make_call: Callable[..., Any], max_bytes: int = 1000, **options: Any) -> None:
        self.handler = Handler()
        self.admission, self.failure_counts = Admission(max_bytes), FailureCounts()
        handlers = {TOGETHER: self.handler, APART: lambda message, call: self.handler(message, call)}
        self.dispatcher = Dispatcher(handlers, self.admission, CallGuard(str), self.failure_counts, **options)
        self._make_call = make_call

    def send(self, *messages: bytes, method: str = TOGETHER) -> list[Any]:
        return self.send_each(*((method, message) for message in messages))

    def send_each(self, *messages: tuple[str, bytes]) -> list[Any]:
        calls = [self._make_call() for _ in messages]
        self.dispatcher.handle_all([(*each, call) for each, call in zip(messages, calls, strict=True)])
        return calls


def codes(calls: list[Any]) -> list[str]:
    """Returns the statuses of calls, each of which has at most one; empty where it has none."""
    assert all(len(call.failures) <= 1 and not call.replies for call in calls)
    return ["".join(status.code.name for status in call.failures) for call in calls]


@pytest.fixture
def server(recorded_call: Callable[..., Any]) -> Callable[..., Server]:
    """Makes servers."""
    return lambda *args, **options: Server(recorded_call, *args, **options)


def test_calls_of_a_method_go_to_its_handler_together_and_their_order_is_kept(server: Callable[..., Server]) -> None:
    it = server()
    it.send_each((TOGETHER, b"1"), (TOGETHER, b"2"), (APART, b"3"), (APART, b"4"), (TOGETHER, b"5"))
    assert it.handler.handled == [[b"1", b"2"], [b"3"], [b"4"], [b"5"]]


def test_nothing_arrives(server: Callable[..., Server]) -> None:
    it = server()
    it.send()
    assert it.handler.handled == []


def test_a_method_without_a_handler_costs_its_caller_only(server: Callable[..., Server]) -> None:
    it = server()
    assert codes(it.send_each((TOGETHER, b"1"), ("/service/Nope", b"2"), (APART, b"3"))) == ["", "INTERNAL", ""]
    assert it.handler.handled == [[b"1"], [b"3"]]


def test_a_call_that_its_handler_fails_is_answered_and_counted(server: Callable[..., Server]) -> None:
    it = server()
    assert codes(it.send(b"1", b"bad", b"3")) == ["", "NOT_FOUND", ""]
    assert it.failure_counts.read() == {(TOGETHER, "NOT_FOUND", "not_found"): 1}


@pytest.mark.parametrize("method", [TOGETHER, APART])
def test_the_limit_of_bytes_holds_for_each_call(server: Callable[..., Server], method: str) -> None:
    it = server(max_bytes=10)
    calls = it.send(b"1234", b"123456", b"1", b"", method=method)
    assert codes(calls) == ["", "", "RESOURCE_EXHAUSTED", ""]
    assert [message for group in it.handler.handled for message in group] == [b"1234", b"123456", b""]
    assert it.failure_counts.read() == {(method, "RESOURCE_EXHAUSTED", "queue_full"): 1}
    calls[0].reply(b"")
    assert codes(it.send(b"12345", b"1234")) == ["RESOURCE_EXHAUSTED", ""]


def test_a_smaller_call_is_taken_behind_one_that_is_too_large(server: Callable[..., Server]) -> None:
    it = server(max_bytes=10)
    assert codes(it.send(b"1234", b"1234567", b"123456")) == ["", "RESOURCE_EXHAUSTED", ""]


def test_a_single_call_of_any_size_is_taken_where_nothing_is_before_it(server: Callable[..., Server]) -> None:
    it = server(max_bytes=10)
    assert codes(it.send(b"x" * 20, b"1")) == ["", "RESOURCE_EXHAUSTED"]


def test_bytes_are_free_again_when_calls_are_answered(server: Callable[..., Server]) -> None:
    it = server(max_bytes=10)
    for _ in range(3):
        calls = it.send(b"12345", b"12345")
        assert codes(calls) == ["", ""]
        it.admission.replied(calls[:1])
        calls[1].reply(b"")
    assert it.admission.replies == {TOGETHER: 6}


def test_a_draining_server_refuses_new_calls_and_reports_admitted_ones(server: Callable[..., Server]) -> None:
    it = server()
    taken = it.send(b"1", b"2")
    assert it.admission.drain(0) == 2
    refused = it.send(b"3", b"4")
    assert codes([*taken, *refused]) == ["UNAVAILABLE"] * 4
    assert it.handler.handled == [[b"1", b"2"]]


def test_a_drain_ends_when_calls_that_arrived_together_are_answered(server: Callable[..., Server]) -> None:
    it = server()
    calls = it.send(b"1", b"2")
    it.admission.replied(calls)
    assert it.admission.drain(60) == 0


def test_each_call_is_authorized_by_itself(server: Callable[..., Server]) -> None:
    class Authorizer:
        def authorize(self, method: str, message: bytes, metadata: Any) -> Any:
            if message == b"2":
                raise PermissionDenied("no")
            return SimpleNamespace(name=message)

    it = server(authorizer=Authorizer())
    calls = it.send(b"1", b"2", b"3")
    assert codes(calls) == ["", "PERMISSION_DENIED", ""]
    assert [call.principal.name for call in (calls[0], calls[2])] == [b"1", b"3"]
    assert [call.sender for call in calls] == [b"1", None, b"3"]
    assert it.handler.handled == [[b"1", b"3"]]


def test_each_failed_call_is_logged(server: Callable[..., Server]) -> None:
    told: list[Any] = []

    class Lines(AccessLog):
        def write(self, call: Any, trace_id: str) -> None:
            told.append((call.method, call.code))

    it = server(observer=CallObserver(Lines(None, 100), None, lambda error: pytest.fail(str(error))))
    calls = it.send(b"1", b"bad", b"bad")
    assert told == [(TOGETHER, "NOT_FOUND")] * 2
    assert all(call.started_ns for call in calls)


@pytest.mark.parametrize("together", [True, False], ids=["together", "alone"])
def test_triton_status_codes_are_each_calls(server: Callable[..., Server], together: bool) -> None:
    it = server(max_bytes=1, triton_status_codes=True)
    it.send(b"1")
    assert set(codes(it.send(*[b"2"] * (2 if together else 1)))) == {"UNAVAILABLE"}


def test_what_a_transport_refuses_keeps_its_status_code_also_among_tritons(
    server: Callable[..., Server], recorded_call: Callable[..., Any]
) -> None:
    it, call = server(triton_status_codes=True), recorded_call()
    it.dispatcher.refuse(TOGETHER, call, CallStatus(StatusCode.RESOURCE_EXHAUSTED, "too long", reason="too_large"))
    assert codes([call]) == ["RESOURCE_EXHAUSTED"]
    assert it.failure_counts.read() == {(TOGETHER, "RESOURCE_EXHAUSTED", "too_large"): 1}


def test_probes_among_the_others_are_answered_even_by_a_server_that_drains(server: Callable[..., Server]) -> None:
    it = server(probes={"/health/Check": lambda message, call: call.reply(message)})
    it.admission.drain(0)
    before, probe, behind = it.send_each((TOGETHER, b"1"), ("/health/Check", b"2"), (TOGETHER, b"3"))
    assert probe.replies == [b"2"]
    assert codes([before, behind]) == ["UNAVAILABLE"] * 2
