"""The process's life cycle: components start in order and stop in reverse order, by one deadline.

The main thread only waits: for a signal, then for the deadline. Everything that can hang runs on other threads, so
nothing can prevent the process from exiting.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn, Protocol

from .deadline import Deadline
from .failures import FailureLog
from .signals import StopSignal

UNFINISHED = 13
"""Exit code of a server whose grace ran out before every accepted request was answered (docs/cli.md)."""
ENDING_S = 1.3
"""Seconds for a server to stop after its grace, or after its last call; then the process exits."""

# Total time for the components after one that hangs.
_SLACK_S = 0.3
_MOMENT_S = 0.05
# Time to write the last log line; its target may block.
_LAST_LINE_S = 0.3
# Time for the interpreter to exit.
_INTERPRETER_S = 1.0


def _nothing() -> None:
    """The start of a component that only needs stopping."""


@dataclass(frozen=True)
class Component:
    """A component of the server, started once and stopped once."""

    name: str
    """Its name in the log if it does not stop."""
    stop: Callable[[Deadline], object]
    """Stops it, started or not, by the deadline. Returns False if it is still running."""
    start: Callable[[], object] = _nothing
    """Starts it."""


def start(components: Iterable[Component]) -> None:
    """Starts components in order; raises the first failure."""
    for component in components:
        component.start()


def stop(components: Sequence[Component], deadline: Deadline, log_failure: FailureLog) -> list[str]:
    """Stops components in reverse order. Returns by the deadline and raises nothing, whatever the components do.

    Returns:
        The names of components that are still running.
    """
    return [component.name for component in reversed(components) if not _stop_one(component, deadline, log_failure)]


def _stop_one(component: Component, deadline: Deadline, log_failure: FailureLog) -> bool:
    ended: list[bool] = []

    def work() -> None:
        try:
            ended.append(component.stop(deadline) is not False)
        except Exception as error:  # noqa: BLE001  the other components must still be stopped
            log_failure(error)

    # On a separate thread, so a component that hangs costs only the remaining time.
    thread = threading.Thread(target=work, name=f"stop {component.name}", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        # The system refuses another thread. A component that hangs here costs the others their time; the process still
        # exits by the deadline.
        work()
    else:
        thread.join(max(deadline.left_s(), _MOMENT_S))
    return ended == [True]


class StartGate:
    """Decides whether the start completed before the signal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = self._is_closed = False

    def open(self) -> bool:
        """Returns whether the server may accept calls: no signal has come."""
        with self._lock:
            self._is_open = not self._is_closed
            return self._is_open

    def close(self) -> bool:
        """Records the signal; returns whether the server may have accepted calls before it."""
        with self._lock:
            self._is_closed = True
            return self._is_open


class Server(Protocol):
    """A server that starts, and stops on the signal."""

    @property
    def unfinished(self) -> int:
        """Number of accepted calls that are unanswered, or whose answers are unsent."""

    def start(self, gate: StartGate) -> None:
        """Starts it; accepts calls only if the gate opens."""

    def stop(self, deadline: Deadline) -> list[str]:
        """Stops it; returns the names of components that are still running."""

    def log_end(self, stuck: list[str]) -> None:
        """Logs how it stopped; `stuck` names the components that are still running."""


class Life:
    """Runs one server on a separate thread; `run` waits for it.

    Args:
        make: constructs the server.
        grace_s: seconds after the signal to answer accepted calls and send the answers.
        on_stopped_while_starting: called if the signal comes before the server accepts calls.
    """

    def __init__(
        self, make: Callable[[], Server], grace_s: float, *, on_stopped_while_starting: Callable[[], object]
    ) -> None:
        self._make = make
        self._grace_s = grace_s
        self._on_stopped_while_starting = on_stopped_while_starting
        self._server: Server | None = None
        self._failure: BaseException | None = None
        self._gate = StartGate()
        self._is_told = threading.Event()
        self._deadline = Deadline(0)
        self._stuck: list[str] | None = None

    def run(self, signal: StopSignal) -> int:
        """Runs the server until the signal; returns the exit code. Call it on the main thread.

        If something hangs, exits the process by the deadline with the same code.

        Raises:
            BaseException: constructing or starting the server failed.
        """
        thread = threading.Thread(target=self._live, args=(signal.wake,), name="server", daemon=True)
        thread.start()
        if signal.wait():
            if not self._gate.close():
                # No call was accepted, and a load cannot be interrupted.
                _leave(0, self._on_stopped_while_starting)
            self._deadline = Deadline.after(self._grace_s + ENDING_S)
            self._is_told.set()
            thread.join(self._deadline.left_s() + _SLACK_S)
        if self._failure is not None:
            raise self._failure
        server = self._server
        if server is None:
            _leave(UNFINISHED, _nothing)
        code = UNFINISHED if server.unfinished else 0
        stuck = ["server"] if self._stuck is None else self._stuck
        if stuck:
            # The interpreter would wait for hung threads, or crash under them.
            _leave(code, lambda: server.log_end(stuck))
        server.log_end([])
        with suppress(RuntimeError):
            threading.Thread(target=_end_later, args=(code,), daemon=True).start()
        return code

    def _live(self, wake: Callable[[], None]) -> None:
        try:
            self._server = self._make()
            self._server.start(self._gate)
        except BaseException as error:  # noqa: BLE001  the main thread raises it
            if self._server is not None:
                self._server.stop(Deadline.after(ENDING_S))
            self._failure = error
            wake()
            return
        self._is_told.wait()
        self._stuck = self._server.stop(self._deadline)


def _end_later(code: int) -> None:
    time.sleep(_INTERPRETER_S)
    os._exit(code)


def _leave(code: int, say: Callable[[], object]) -> NoReturn:
    """Exits at once, whatever hangs; `say` writes a last log line, which may hang too."""
    last = threading.Thread(target=say, daemon=True)
    with suppress(RuntimeError):
        last.start()
        last.join(_LAST_LINE_S)
    os._exit(code)
