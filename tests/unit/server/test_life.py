"""Parts start in order and stop in reverse, and none can keep the process from ending."""

import subprocess
import sys
import threading
from typing import Any

import pytest

from pixelserve_server import life
from pixelserve_server.deadline import Deadline
from pixelserve_server.failures import FailureLog
from pixelserve_server.life import Component, StartGate

PATIENCE_S = 60
LOG = FailureLog(None)

# A server with start, stop and last line from the first argument, in a process that gets a signal.
PROGRAM = """
import os, signal, sys, threading, time
from pixelserve_server.life import Life
from pixelserve_server.signals import stop_signal

start, stop, say, unfinished = sys.argv[1:]
hang = threading.Event().wait


def send():
    os.kill(os.getpid(), signal.SIGTERM)


def spend(what):
    if what == "signal":
        send()
        time.sleep(0.2)
    elif what == "hang":
        hang()
    elif what == "signal and hang":
        send()
        hang()
    elif what == "raise":
        raise ValueError("no such port")


class Server:
    unfinished = int(unfinished)

    def start(self, gate):
        spend(start)
        if gate.open():
            print("serves", flush=True)
            send()

    def stop(self, deadline):
        spend(stop)
        return []

    def log_end(self, stuck):
        print("stuck", stuck, flush=True)
        spend(say)


with stop_signal() as waited:
    while_starting = lambda: (print("stopped while starting", flush=True), spend(say))
    code = Life(Server, 0.1, on_stopped_while_starting=while_starting).run(waited)
sys.exit(code)
"""


def run(start: str = "", stop: str = "", say: str = "", unfinished: int = 0) -> tuple[int, list[str], str]:
    """Returns the exit code, stdout and stderr of such a process."""
    command = [sys.executable, "-c", PROGRAM, start, stop, say, str(unfinished)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return ended.returncode, ended.stdout.splitlines(), ended.stderr


def component(name: str, events: list[str], *, still_runs: bool = False, error: Exception | None = None) -> Component:
    def stop(_: Deadline) -> bool:
        events.append(f"stop {name}")
        if error is not None:
            raise error
        return not still_runs

    return Component(name, stop, lambda: events.append(f"start {name}"))


def test_parts_stop_in_the_opposite_order_of_their_start() -> None:
    events: list[str] = []
    components = [component(name, events) for name in "abc"]
    life.start(components)
    assert life.stop(components, Deadline.after(PATIENCE_S), LOG) == []
    assert events == ["start a", "start b", "start c", "stop c", "stop b", "stop a"]


def test_parts_that_fail_or_still_run_are_named_and_cost_the_others_nothing() -> None:
    events: list[str] = []
    logged: list[tuple[str, Any]] = []

    class Log:
        def error(self, event: str, **fields: Any) -> None:
            logged.append((event, fields["exc_info"]))

    components = [
        component("a", events),
        component("fails", events, error=ValueError("broken")),
        component("runs", events, still_runs=True),
    ]
    assert life.stop(components, Deadline.after(PATIENCE_S), FailureLog(Log())) == ["runs", "fails"]
    assert events == ["stop runs", "stop fails", "stop a"]
    assert [str(error) for _, error in logged] == ["broken"]


def test_a_part_that_hangs_costs_the_time_that_is_left_and_nothing_else() -> None:
    events: list[str] = []
    never = threading.Event()
    components = [component("a", events), Component("hangs", lambda _: never.wait())]
    assert "hangs" in life.stop(components, Deadline.after(0.1), LOG)
    # Late, but asked to stop all the same.
    assert events == ["stop a"]
    never.set()


def test_a_gate_lets_a_signal_or_a_start_pass_and_never_both() -> None:
    first = StartGate()
    assert first.open()
    assert first.close()
    second = StartGate()
    assert not second.close()
    assert not second.open()


@pytest.mark.slow
class TestProcess:
    """A separate process, because it ends."""

    def test_an_end_in_time_has_the_servers_exit_code(self) -> None:
        assert run() == (0, ["serves", "stuck []"], "")
        assert run(unfinished=2) == (13, ["serves", "stuck []"], "")

    @pytest.mark.parametrize("say", ["", "hang"])
    def test_a_signal_while_starting_ends_the_process_although_the_start_hangs(self, say: str) -> None:
        assert run(start="signal and hang", say=say) == (0, ["stopped while starting"], "")

    def test_a_start_that_ends_after_the_signal_serves_no_one(self) -> None:
        code, said, _ = run(start="signal")
        assert (code, said) == (0, ["stopped while starting"])

    @pytest.mark.parametrize("say", ["", "hang"])
    @pytest.mark.parametrize(("unfinished", "code"), [(0, 0), (1, 13)])
    def test_a_stop_that_hangs_ends_with_the_same_exit_code(self, say: str, unfinished: int, code: int) -> None:
        assert run(stop="hang", say=say, unfinished=unfinished) == (code, ["serves", "stuck ['server']"], "")

    def test_a_second_signal_ends_the_process_at_once(self) -> None:
        assert run(stop="signal")[0] == -15

    def test_a_start_that_fails_raises(self) -> None:
        code, said, errors = run(start="raise")
        assert (code, said) == (1, [])
        assert errors.endswith("ValueError: no such port\n")


def test_components_stop_where_the_system_refuses_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container limits threads, and something took them all."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    stopped: list[str] = []
    parts = [
        Component("first", lambda deadline: stopped.append("first")),
        Component("hung", lambda deadline: False),
        Component("last", lambda deadline: stopped.append("last")),
    ]
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert life.stop(parts, Deadline.after(PATIENCE_S), LOG) == ["hung"]
    assert stopped == ["last", "first"]
