"""Calls reported to the access log and the traces."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest

from pixelserve_server.api.admission import Admission
from pixelserve_server.api.call import Call, Subject
from pixelserve_server.api.call_observer import CallObserver
from pixelserve_server.api.codes import StatusCode
from pixelserve_server.api.dispatch import CallGuard, Dispatcher
from pixelserve_server.api.status import CallStatus
from pixelserve_server.engine.request import ComputedBatch
from pixelserve_server.errors import NotFound
from pixelserve_server.observe.access_log import AccessLog
from pixelserve_server.observe.calls import AnsweredCall

INFER = "/inference.GRPCInferenceService/ModelInfer"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")


class Lines(AccessLog):
    """Keeps calls and their traces instead of writing lines."""

    def __init__(self, per_s: float = 1000) -> None:
        super().__init__(None, per_s)
        self.written: list[tuple[AnsweredCall, str]] = []

    def write(self, call: AnsweredCall, trace_id: str) -> None:
        self.written.append((call, trace_id))


class Traces:
    """Traces all calls, or none."""

    def __init__(self, wanted: bool = True) -> None:
        self.wanted = wanted
        self.added: list[AnsweredCall] = []

    def wants(self, metadata: Any) -> bool:
        return self.wanted

    def add(self, call: AnsweredCall) -> str:
        self.added.append(call)
        return "ef" * 16


@pytest.fixture
def handle(recorded_call: Callable[..., Any]) -> Callable[..., Any]:
    """Has a call handled by an observer, which must not fail, and returns the call."""

    def handled(
        log: AccessLog | None, traces: Any, handler: Callable[[Call], None], method: str = INFER, metadata: Any = ()
    ) -> Any:
        failures: list[BaseException] = []
        call = recorded_call()
        call.metadata = lambda: metadata
        observer = CallObserver(log, traces, failures.append)
        dispatcher = Dispatcher(
            {method: lambda _, call: handler(call)}, Admission(1000), CallGuard(str), observer=observer
        )
        dispatcher.handle(method, b"", call)
        assert not failures
        return call

    return handled


def answer(call: Call) -> None:
    if call.record is not None:
        call.subject = Subject("digits", "2", "seven")
    call.reply(b"answer")


def refuse(call: Call) -> None:
    call.subject = Subject("letters", "")
    raise NotFound("there are no letters")


@pytest.mark.parametrize("handler", [answer, refuse])
def test_a_call_that_was_told_of_does_not_keep_its_runs_outputs(
    handle: Callable[..., Any], handler: Callable[[Call], None]
) -> None:
    # A transport keeps the call until its answer is read, which may take long.
    runs: list[weakref.ref[ComputedBatch]] = []

    def compute(call: Call) -> None:
        batch = ComputedBatch({}, 1, is_alone=True)
        runs.append(weakref.ref(batch))
        assert call.record is not None
        call.record.computed(batch, 0)
        handler(call)

    log = Lines()
    call = handle(log, None, compute)
    log.written.clear()
    assert call.replies or call.failures
    assert runs[0]() is None


def test_a_call_that_went_well_gets_a_line_with_its_callers_trace(handle: Callable[..., Any]) -> None:
    log = Lines()
    handle(log, None, answer, metadata=[PARENT])
    ((call, trace_id),) = log.written
    assert (call.method, call.code, call.code_number, call.via, trace_id) == (INFER, "OK", 0, "grpc", TRACE)
    assert (call.model, call.version, call.request_id) == ("digits", "2", "seven")
    assert 0 < call.started_ns <= call.ended_ns


def test_a_call_that_failed_gets_one_with_the_reason(handle: Callable[..., Any]) -> None:
    log = Lines()
    handle(log, None, refuse)
    ((call, trace_id),) = log.written
    assert (call.code, call.code_number, call.reason, call.message) == (
        *("NOT_FOUND", StatusCode.NOT_FOUND.value),
        *("not_found", "there are no letters"),
    )
    assert (call.model, call.version, call.request_id, trace_id) == ("letters", "", "", "")


def test_what_a_transport_refuses_gets_one_too(recorded_call: Callable[..., Any]) -> None:
    log, call = Lines(), recorded_call()
    dispatcher = Dispatcher({}, Admission(1000), CallGuard(str), observer=CallObserver(log, None, str))
    dispatcher.refuse(INFER, call, CallStatus(StatusCode.RESOURCE_EXHAUSTED, "too long", reason="too_large"))
    assert [(each.method, each.reason) for each, _ in log.written] == [(INFER, "too_large")]


def test_what_a_transport_could_not_hand_over_gets_one_too(recorded_call: Callable[..., Any]) -> None:
    log, call = Lines(), recorded_call()
    dispatcher = Dispatcher({}, Admission(1000), CallGuard(str), observer=CallObserver(log, None, str))
    dispatcher.fail(INFER, call, NotFound("there are no letters"))
    assert [(each.method, each.reason) for each, _ in log.written] == [(INFER, "not_found")]
    assert 0 < log.written[0][0].started_ns <= log.written[0][0].ended_ns


def test_traces_are_notified_first_and_the_line_has_their_trace(handle: Callable[..., Any]) -> None:
    log, traces = Lines(), Traces()
    for handler in (answer, refuse):
        handle(log, traces, handler)
    assert [(call.code, trace_id) for call, trace_id in log.written] == [("OK", "ef" * 16), ("NOT_FOUND", "ef" * 16)]
    assert [call.code for call in traces.added] == ["OK", "NOT_FOUND"]


def test_an_unwatched_call_leaves_no_record(handle: Callable[..., Any]) -> None:
    log, traces = Lines(per_s=1e-9), Traces(wanted=False)
    log.successes.take(2**62)
    assert handle(log, traces, answer).record is None
    assert (log.written, traces.added) == ([], [])


def test_a_trace_needs_no_line_and_a_line_no_trace(handle: Callable[..., Any]) -> None:
    traces = Traces()
    handle(None, traces, answer)
    handle(None, traces, refuse)
    assert [call.code for call in traces.added] == ["OK", "NOT_FOUND"]
    log = Lines()
    handle(log, Traces(wanted=False), answer)
    assert [trace_id for _, trace_id in log.written] == [""]


@pytest.mark.parametrize("probe", ["ServerLive", "ServerReady", "ModelReady"])
def test_a_probe_gets_a_line_only_where_it_fails(handle: Callable[..., Any], probe: str) -> None:
    log, method = Lines(), f"/inference.GRPCInferenceService/{probe}"
    handle(log, None, answer, method)
    handle(log, None, refuse, method)
    assert [call.code for call, _ in log.written] == ["NOT_FOUND"]


@pytest.mark.parametrize("handler", [answer, refuse])
def test_whatever_goes_wrong_here_costs_the_caller_nothing(
    recorded_call: Callable[..., Any], handler: Callable[[Call], None]
) -> None:
    class Broken(Traces):
        def add(self, call: AnsweredCall) -> str:
            raise OSError("no space left")

    failures: list[BaseException] = []
    call, admission = recorded_call(), Admission(1000)
    observer = CallObserver(None, Broken(), failures.append)  # type: ignore[arg-type]
    Dispatcher({INFER: lambda _, call: handler(call)}, admission, CallGuard(str), observer=observer).handle(
        INFER, b"", call
    )
    assert len(call.replies) + len(call.failures) == 1
    assert [str(failure) for failure in failures] == ["no space left"]
    # It is no longer counted as unanswered.
    assert admission.drain(0) == 0
