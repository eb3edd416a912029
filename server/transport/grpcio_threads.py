"""The threads that carry grpcio's calls, of which each sleeps for as long as its call lasts.

There are as many as calls, so that no call waits for another's thread: in a pool of 64, 64 calls without a message held
up all others, and a client with one call at a time waited 530 ms beside one with 512, instead of 9.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from typing import Any

# A thread that carried no call for this time ends: a flood must not take threads for ever.
_IDLE_S = 10.0

_Call = Callable[[], None]


class CallThreads(Executor):
    """Carries each call on an idle thread, or on a new one if there is none. Thread-safe.

    The number of threads is that of calls, which grpcio limits. Unlike the standard library's pool, it ends idle
    threads, and `submit` does not raise if the system refuses a thread: grpcio calls it on the thread that serves all
    calls, which would end.
    """

    def __init__(self, idle_s: float = _IDLE_S) -> None:
        """`idle_s`: seconds after which an idle thread ends."""
        self.idle_s = idle_s
        self._lock = threading.Lock()
        # Taken by whichever thread comes first: often one that has just carried a call, before the one that was woken.
        self._calls: deque[_Call] = deque()
        # The last one to become idle is the first to be used, so that others can end.
        self._idle: list[_Carrier] = []

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Carries a call on an idle or new thread, or on the next idle one if the system refuses a new one."""
        ended: Future[Any] = Future()
        with self._lock:
            self._calls.append(partial(_carry, ended, partial(work, *args, **kwargs)))
            if self._idle:
                self._idle.pop().wake()
                return ended
        with suppress(RuntimeError):
            _Carrier(self).start()
        return ended

    def next_call(self, carrier: "_Carrier") -> _Call | None:
        """Returns a call to carry; None if there is none and the thread counts as idle from now on."""
        with self._lock:
            if self._calls:
                return self._calls.popleft()
            self._idle.append(carrier)
            return None

    def may_end(self, carrier: "_Carrier") -> bool:
        """Returns whether an idle thread was not woken; it counts as idle no more."""
        with self._lock:
            if carrier not in self._idle:
                return False
            self._idle.remove(carrier)
            return True


class _Carrier(threading.Thread):
    """A thread that carries one call after the other."""

    def __init__(self, threads: CallThreads) -> None:
        super().__init__(name="grpcio", daemon=True)
        self._threads = threads
        # A bare lock is the cheapest way to wait for another thread.
        self._is_woken = threading.Lock()
        self._is_woken.acquire()

    def wake(self) -> None:
        """Ends its wait; called once, after it became idle."""
        self._is_woken.release()

    def run(self) -> None:
        is_needed = True
        while is_needed:
            while (call := self._threads.next_call(self)) is not None:
                call()
            is_needed = self._waits()

    def _waits(self) -> bool:
        """Returns whether it was woken; it must end if not."""
        if self._is_woken.acquire(timeout=self._threads.idle_s):
            return True
        if self._threads.may_end(self):
            return False
        # It is being woken just now.
        return self._is_woken.acquire()


def _carry(ended: "Future[Any]", work: Callable[[], object]) -> None:
    try:
        work()
    except BaseException as error:  # noqa: BLE001  no call may end its thread
        ended.set_exception(error)
    else:
        ended.set_result(None)
