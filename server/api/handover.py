"""Passes calls from an event loop to computing threads, and answers back, in groups."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from .call import Call
from .dispatch import Dispatcher
from .status import CallStatus

# A smaller lag is not worth examining each call.
_NOTICEABLE_S = 0.001


class Waiter(Protocol):
    """Waits for an answer on the loop."""

    def deliver(self, answer: Any) -> None:
        """Receives it, on the loop's thread."""


class Arrivals:
    """Collects the calls of one turn of the loop, and dispatches them together.

    Belongs to the loop's thread. A group costs the locks and look-ups of one call.

    Args:
        loop: the event loop that reads the calls.
        dispatcher: receives the calls.
        behind_s: returns the maximum time, in seconds, that new calls can have waited for the loop, which
            counts for their deadlines and latency targets.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher, behind_s: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._behind_s = behind_s
        self._loop = loop
        self._dispatcher = dispatcher
        self._calls: list[tuple[str, bytes, Call]] = []
        self._expected = 0

    def expect(self) -> None:
        """Announces a call that will probably be added. Announced in time, a lone one need not wait for others."""
        self._expected += 1

    def add(self, method: str, message: bytes, call: Call) -> None:
        """Adds a call, which is dispatched at the end of this turn; at once if it is the only one expected."""
        self._calls.append((method, message, call))
        if self._expected == 1:
            self._hand_over()
        elif len(self._calls) == 1:
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        if not self._calls:
            # They were dispatched with a later call that was the only one expected.
            return
        calls, self._calls = self._calls, []
        # Forgets those that never came.
        self._expected = 0
        behind_s = self._behind_s()
        if behind_s > _NOTICEABLE_S:
            for _, _, call in calls:
                call.waited_ns = int(behind_s * 1e9)
                if call.deadline_s is not None:
                    call.deadline_s -= behind_s
        # A lone call may be computed on this thread; others would wait behind it.
        calls[0][2].may_compute = len(calls) == 1
        self._dispatcher.handle_all(calls)


class Answers:
    """Passes answers to the loop from any thread, with one wake-up for all that come until it wakes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._queue: deque[tuple[Waiter, Any]] = deque()
        self._is_told = False

    def put(self, waiter: Waiter, answer: Any) -> None:
        """Delivers an answer on the loop's thread."""
        self.post(waiter, answer)
        self.flush()

    def post(self, waiter: Waiter, answer: Any) -> None:
        """Delivers an answer at the next `flush` or earlier."""
        if threading.get_ident() == self._loop_thread:
            waiter.deliver(answer)
        else:
            self._queue.append((waiter, answer))

    def flush(self) -> None:
        """Wakes the loop for posted answers: once per run, so it does not take the GIL from the answering thread."""
        if self._queue and not self._is_told:
            self._is_told = True
            # After the loop's end, nothing waits for answers.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # Before reading the queue: later answers wake the loop again.
        self._is_told = False
        queue = self._queue
        while queue:
            waiter, answer = queue.popleft()
            waiter.deliver(answer)


class LoopCall(Call):
    """A call that a coroutine on the loop waits for; any thread may answer it."""

    deadline_s: float | None = None
    may_compute = False
    _on_cancel: Callable[[], None] | None = None
    _has_left = False

    def __init__(self, loop: asyncio.AbstractEventLoop, answers: Answers, scope: Mapping[str, Any]) -> None:
        # Runs for every call: no super().__init__, and rarely changed attributes belong to the class.
        self.answer: asyncio.Future[bytes | CallStatus] = loop.create_future()
        self._answers = answers
        self._scope = scope
        self.sender = scope.get("client")
        self._claims = [None]

    @property
    def peer(self) -> str:
        client = self._scope.get("client")
        return str(client[0]) if client else ""

    def on_cancel(self, callback: Callable[[], None]) -> None:
        self._on_cancel = callback
        # The caller may already have left.
        if self._has_left:
            callback()

    def leave(self) -> None:
        """The caller left. The call stays open: whatever works on it still answers it."""
        self._has_left = True
        # Read first, because an answer may remove it at any moment.
        callback = self._on_cancel
        if callback is not None:
            callback()

    def claim(self) -> bool:
        # The request refers to its call: this breaks the cycle, which would wait for the garbage collector.
        self._on_cancel = None
        try:
            # A single atomic operation, so it needs no lock.
            self._claims.pop()
        except IndexError:
            return False
        return True

    def send(self, message: bytes) -> None:
        self.post(message)
        self._answers.flush()

    def post(self, message: bytes) -> None:
        self._answers.post(self, message)

    def flush(self) -> None:
        self._answers.flush()

    def send_status(self, status: CallStatus) -> None:
        self._answers.put(self, status)

    def deliver(self, answer: bytes | CallStatus) -> None:
        """Passes the answer to the coroutine, unless it was cancelled."""
        if not self.answer.done():
            self.answer.set_result(answer)
