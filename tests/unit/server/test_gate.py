"""Captures and runs exclude each other."""

import threading
from collections.abc import Callable

from pixelserve_server.engine.providers.gate import CaptureGate

TIMEOUT_S = 10


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_many_run_at_once() -> None:
    gate, both = CaptureGate(), threading.Barrier(2)

    def run() -> None:
        with gate.running():
            both.wait(TIMEOUT_S)

    other = in_thread(run)
    run()
    other.join(TIMEOUT_S)
    assert not other.is_alive()


def test_a_capture_waits_for_runs_and_holds_up_new_ones(eventually: Callable[..., None]) -> None:
    """1. A runs. 2. B waits to capture. 3. C waits for B to run. 4. A ends. 5. B, then C."""
    gate, order, a_may_end = CaptureGate(), [], threading.Event()
    a_runs = threading.Event()

    def a() -> None:
        with gate.running():
            a_runs.set()
            a_may_end.wait(TIMEOUT_S)
            order.append("a")

    def b() -> None:
        with gate.capturing():
            order.append("b")

    def c() -> None:
        with gate.running():
            order.append("c")

    threads = [in_thread(a)]
    assert a_runs.wait(TIMEOUT_S)
    threads.append(in_thread(b))
    eventually(lambda: gate._capturing == 1)
    threads.append(in_thread(c))
    assert order == []
    a_may_end.set()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert order == ["a", "b", "c"]


def test_captures_come_one_at_a_time_and_leave_the_gate_open() -> None:
    gate, inside, most = CaptureGate(), 0, 0

    def capture() -> None:
        nonlocal inside, most
        with gate.capturing():
            inside += 1
            most = max(most, inside)
            inside -= 1

    threads = [in_thread(capture) for _ in range(8)]
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert most == 1
    with gate.running(), gate.running():
        pass


def test_a_failed_capture_opens_the_gate() -> None:
    gate = CaptureGate()
    try:
        with gate.capturing():
            raise RuntimeError
    except RuntimeError:
        pass
    with gate.running():
        pass
