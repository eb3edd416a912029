"""Between an event loop and the threads that compute: calls go over together, and so do answers."""

import asyncio
import threading
from collections import deque
from contextlib import suppress
from typing import Any, Protocol

from .call import Call
from .dispatch import Dispatcher


class Waiter(Protocol):
    """Something on the loop that waits for an answer."""

    def deliver(self, answer: Any) -> None:
        """Takes it; called on the loop's thread."""


class Arrivals:
    """Collects the calls that one turn of the loop brings, and hands them to the dispatcher together.

    Belongs to the loop's thread. One hand-over costs the locks and the look-ups of one call, however many it brings.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher) -> None:
        self._loop = loop
        self._dispatcher = dispatcher
        self._calls: list[tuple[str, bytes, Call]] = []

    def add(self, method: str, message: bytes, call: Call) -> None:
        """Adds a call, which is handed over at the end of this turn."""
        self._calls.append((method, message, call))
        if len(self._calls) == 1:
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        calls, self._calls = self._calls, []
        # A call that comes alone may be computed on this thread; others would wait behind it.
        calls[0][2].may_compute = len(calls) == 1
        self._dispatcher.handle_all(calls)


class Answers:
    """Brings answers to the loop, from any thread: one wake-up for all that come until it has woken."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._queue: deque[tuple[Waiter, Any]] = deque()
        self._is_told = False

    def put(self, waiter: Waiter, answer: Any) -> None:
        """Gives a waiter its answer, on the loop's thread."""
        self.post(waiter, answer)
        self.flush()

    def post(self, waiter: Waiter, answer: Any) -> None:
        """Gives a waiter its answer when `flush` has been called, or before."""
        if threading.get_ident() == self._loop_thread:
            waiter.deliver(answer)
        else:
            self._queue.append((waiter, answer))

    def flush(self) -> None:
        """Wakes the loop for what was posted: once for a run, so that the loop does not take the interpreter from the
        thread that still answers."""
        if self._queue and not self._is_told:
            self._is_told = True
            # A loop that has ended has nobody who waits.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # Before the queue is looked at: what comes later wakes the loop again.
        self._is_told = False
        queue = self._queue
        while queue:
            waiter, answer = queue.popleft()
            waiter.deliver(answer)
