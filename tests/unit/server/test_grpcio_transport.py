"""grpcio's threads and answers: no call waits for another's thread, and unread answers are given up."""

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from pixelserve_server.api.admission import Admission
from pixelserve_server.api.call import Call
from pixelserve_server.api.dispatch import CallGuard, Dispatcher
from pixelserve_server.deadline import Deadline
from pixelserve_server.failures import FailureLog
from pixelserve_server.supervised import Supervisor
from pixelserve_server.transport import SLOW_BYTES_PER_S, Services, grpcio_calls
from pixelserve_server.transport.grpcio import GrpcioTransport
from pixelserve_server.transport.grpcio_calls import Sending
from pixelserve_server.transport.grpcio_threads import CallThreads

TIMEOUT_S = 30
CALLS = 200
METHOD = "/test.Service/Wait"


class Waiting:
    """A method that answers once all calls have come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls: list[Call] = []

    def __call__(self, message: bytes, call: Call) -> None:
        with self._lock:
            self.calls.append(call)
            calls = self.calls if len(self.calls) == CALLS else []
        for each in calls:
            each.reply(b"all are here")


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.fixture
def call(waiting: Waiting) -> Iterator[Callable[[], Any]]:
    """Calls the method, and returns the pending call."""
    admission = Admission(1 << 20)
    transport = GrpcioTransport(
        max_calls=CALLS + 1,
        max_streamed=0,
        max_message_bytes=1 << 20,
        max_streams=2 * CALLS,
        supervisor=Supervisor(FailureLog(None)),
    )
    address = transport.bind("127.0.0.1", 0)
    transport.start(Services(Dispatcher({METHOD: waiting}, admission, CallGuard(FailureLog(None))), admission))
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(METHOD)
        yield lambda: method.future(b"", timeout=TIMEOUT_S)
    transport.stop(Deadline.after(0))


def test_as_many_calls_as_are_allowed_are_handled_at_once(call: Callable[[], Any]) -> None:
    pending = [call() for _ in range(CALLS)]
    assert {each.result() for each in pending} == {b"all are here"}


def test_a_refused_thread_delays_one_call_only(
    call: Callable[[], Any], waiting: Waiting, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    """A container may limit threads. Timeline: 1. all calls but one wait, each on its thread; 2. the last one gets no
    thread; 3. a further one gets one, which takes the last one first; 4. all are answered."""
    start, refused = threading.Thread.start, threading.Event()
    pending = [call() for _ in range(CALLS - 1)]
    eventually(lambda: len(waiting.calls) == CALLS - 1)

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("grpcio"):
            refused.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pending.append(call())
    assert refused.wait(TIMEOUT_S)
    monkeypatch.undo()
    further = call()
    assert {each.result() for each in pending} == {b"all are here"}
    further.cancel()


def test_work_waits_for_an_idle_thread_where_the_system_refuses_another(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, going, done = CallThreads(), threading.Event(), threading.Event()
    busy = threads.submit(going.wait, TIMEOUT_S)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    waiting = threads.submit(done.set)
    assert not waiting.done()
    going.set()
    assert busy.result(TIMEOUT_S) is waiting.result(TIMEOUT_S) is None
    assert done.is_set()


def carriers() -> int:
    return sum(thread.name == "grpcio" for thread in threading.enumerate())


def test_idle_threads_are_used_again_and_end_after_a_time(eventually: Callable[..., None]) -> None:
    before, threads, going = carriers(), CallThreads(idle_s=0.5), threading.Event()
    first = [threads.submit(going.wait, TIMEOUT_S) for _ in range(20)]
    assert carriers() == before + 20
    going.set()
    assert {each.result(TIMEOUT_S) for each in first} == {None}
    for _ in range(50):
        threads.submit(lambda: None).result(TIMEOUT_S)
    assert carriers() <= before + 20
    eventually(lambda: carriers() == before)
    assert threads.submit(lambda: None).result(TIMEOUT_S) is None


def test_no_work_is_lost_as_threads_end() -> None:
    """They end all the time while work comes; what no thread took would never be done."""
    threads = CallThreads(idle_s=0.0001)
    for _ in range(300):
        batch = [threads.submit(time.sleep, 0.0001) for _ in range(5)]
        assert {each.result(TIMEOUT_S) for each in batch} == {None}


def test_a_call_that_raises_ends_and_its_thread_goes_on() -> None:
    threads, before = CallThreads(), carriers()
    for _ in range(10):
        assert isinstance(threads.submit(lambda: 1 / 0).exception(TIMEOUT_S), ZeroDivisionError)
    assert carriers() <= before + 1


class Context:
    """A call's context that counts how often it was cancelled."""

    def __init__(self) -> None:
        self.cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1


def test_an_answer_may_take_as_long_as_a_slow_reader_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr(grpcio_calls, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    sending, small, large, sent = Sending(10), Context(), Context(), Context()
    contexts: list[Any] = [small, large, sent]
    for context, size_bytes in zip(contexts, (0, 20 * SLOW_BYTES_PER_S, 0), strict=True):
        sending.begin(context, size_bytes)
    sending.end(contexts[2])
    assert sending.count == 2
    cancelled = []
    for clock.now_s in (109.0, 111.0, 129.0, 131.0):
        sending.cancel_unread()
        cancelled.append((small.cancelled > 0, large.cancelled > 0, sent.cancelled > 0))
    assert cancelled == [(False,) * 3, (True, False, False), (True, False, False), (True, True, False)]
