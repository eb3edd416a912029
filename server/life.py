"""The life of a process: its parts start one after the other and stop in the opposite order, by one clock.

The main thread only waits: for a signal, then for the deadline. Everything that can hang runs on other threads, so
nothing can keep the process from ending.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from .deadline import Deadline
from .failures import FailureLog
from .signals import StopSignal

UNFINISHED = 13
"""Exit code of a server whose grace ran out before every accepted request was answered (docs/cli.md)."""
ENDING_S = 1.3
"""Seconds that a server gets to end after its grace, or after its last call; what is not over by then is cut off."""

# What parts that come after one that hangs get, all together.
_SLACK_S = 0.3
_MOMENT_S = 0.05
# What the log gets for a last line, whatever it is written to.
_LAST_LINE_S = 0.3
# What the interpreter gets to end.
_INTERPRETER_S = 1.0


def _nothing() -> None:
    """The start of a part that only needs to be stopped."""


@dataclass(frozen=True)
class Part:
    """Something that is started once and stopped once."""

    name: str
    """What the log calls it if it does not stop."""
    stop: Callable[[Deadline], object]
    """Stops it, started or not, by the deadline. Returns False if something of it still runs."""
    start: Callable[[], object] = _nothing
    """Starts it."""


def start(parts: Iterable[Part]) -> None:
    """Starts parts in their order; raises whatever the first one raises that fails."""
    for part in parts:
        part.start()


def stop(parts: Sequence[Part], deadline: Deadline, log_failure: FailureLog) -> list[str]:
    """Stops parts, the last one first. Ends at the deadline, and raises nothing, whatever the parts do.

    Returns:
        The names of the parts of which something still runs.
    """
    return [part.name for part in reversed(parts) if not _stop_one(part, deadline, log_failure)]


def _stop_one(part: Part, deadline: Deadline, log_failure: FailureLog) -> bool:
    ended: list[bool] = []

    def work() -> None:
        try:
            ended.append(part.stop(deadline) is not False)
        except Exception as error:  # noqa: BLE001  the other parts must be stopped all the same
            log_failure(error)

    # On a thread of its own, so that a part that hangs costs the time that is left, and nothing else.
    thread = threading.Thread(target=work, name=f"stop {part.name}", daemon=True)
    thread.start()
    thread.join(max(deadline.left_s(), _MOMENT_S))
    return ended == [True]


class Gate:
    """Decides between the end of a start and a signal: whichever comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = self._is_closed = False

    def open(self) -> bool:
        """Returns whether the server may take calls: no signal has come."""
        with self._lock:
            self._is_open = not self._is_closed
            return self._is_open

    def close(self) -> bool:
        """Says that a signal has come; returns whether the server may have taken calls by then."""
        with self._lock:
            self._is_closed = True
            return self._is_open


class Server(Protocol):
    """What is started, and stopped when the signal comes."""

    @property
    def unfinished(self) -> int:
        """How many accepted calls were not answered, or their answers not sent."""

    def start(self, gate: Gate) -> None:
        """Starts it; calls are taken only if the gate opens."""

    def stop(self, deadline: Deadline) -> list[str]:
        """Stops it; returns the names of parts of which something still runs."""

    def log_end(self, stuck: list[str]) -> None:
        """Says how it ended; `stuck` are the parts of which something still runs."""


class Life:
    """One server's life, on a thread of its own; `run` waits for it."""

    def __init__(
        self, make: Callable[[], Server], grace_s: float, *, on_stopped_while_starting: Callable[[], object]
    ) -> None:
        """Starts nothing yet.

        Args:
            make: makes the server.
            grace_s: seconds from the signal by which accepted calls are answered and their answers sent.
            on_stopped_while_starting: called if the signal comes before the server takes calls.
        """
        self._make = make
        self._grace_s = grace_s
        self._on_stopped_while_starting = on_stopped_while_starting
        self._server: Server | None = None
        self._failure: BaseException | None = None
        self._gate = Gate()
        self._is_told = threading.Event()
        self._deadline = Deadline(0)
        self._stuck: list[str] | None = None

    def run(self, signal: StopSignal) -> int:
        """Runs the server until the signal; returns the exit code. Call it on the main thread.

        Where something hangs, it ends the process by the deadline, with the same code.

        Raises:
            BaseException: what making or starting the server raised.
        """
        thread = threading.Thread(target=self._live, args=(signal.wake,), name="server", daemon=True)
        thread.start()
        if signal.wait():
            if not self._gate.close():
                # Nothing was accepted, and a load cannot be interrupted.
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
            # The interpreter would wait for what hangs, or crash under it.
            _leave(code, lambda: server.log_end(stuck))
        server.log_end([])
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
    """Ends the process at once, whatever hangs; `say` writes a last line to the log, which may hang too."""
    last = threading.Thread(target=say, daemon=True)
    last.start()
    last.join(_LAST_LINE_S)
    os._exit(code)
