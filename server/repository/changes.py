"""Orders changes of models: one at a time, until one takes too long.

A load measures run times, so two at once would distort each other's figures. A load that exceeds the patience of the
others continues beside them, so one that never ends blocks only its own model.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from ..errors import QueueFull

T = TypeVar("T")

PATIENCE_S = 5.0
"""How long other models wait for a change, in seconds."""
MAX_LATE = 16
"""Maximum number of slow changes at once; more are refused. Each holds a thread and its model's memory."""


class ChangeQueue:
    """Applies changes on its own threads. Thread-safe."""

    def __init__(self, patience_s: float = PATIENCE_S, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Threads start with the first change.

        Args:
            patience_s: how long other models' changes wait for one, in seconds.
            clock_s: the clock.
        """
        self._patience_s = patience_s
        self._clock_s = clock_s
        self._waiting: deque[_Change] = deque()
        # Start times of running changes, by model.
        self._begun_s: dict[str, float] = {}
        self._threads = 0
        self._is_closed = False
        self._changed = threading.Condition(threading.Lock())

    def submit(self, model: str, change: Callable[[], T]) -> "Future[T]":
        """Submits a change of a model, to run after the model's earlier ones.

        Returns:
            The result of the change. Cancelled if the queue is closed first.

        Raises:
            QueueFull: too many slow changes are running.
        """
        done: Future[T] = Future()
        with self._changed:
            if self._is_closed:
                done.cancel()
                return done
            if len(self._late()) >= MAX_LATE:
                raise QueueFull(
                    f"{MAX_LATE} models have been loading for more than {self._patience_s:g} s, and no more are "
                    f"accepted; see the server's log for what they are doing"
                )
            self._waiting.append((model, change, done))
            self._add_thread()
            self._changed.notify_all()
        return done

    def is_changing(self, model: str) -> bool:
        """Returns whether a change of this model is running or waiting."""
        with self._changed:
            return model in self._begun_s or any(model == each for each, _, _ in self._waiting)

    def wait(self, changes: "Mapping[str, Future[Any]]") -> None:
        """Waits for changes, by model, except for those that exceed the patience."""
        with self._changed:
            while any(not done.done() for model, done in changes.items() if model not in self._late()):
                self._changed.wait(self._until_late_s())

    def close(self) -> bool:
        """Stops changes; returns whether none is running."""
        with self._changed:
            self._is_closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
            is_idle = not self._begun_s
        for _, _, done in waiting:
            done.cancel()
        return is_idle

    def _late(self) -> list[str]:
        now_s = self._clock_s()
        return [model for model, begun_s in self._begun_s.items() if now_s - begun_s >= self._patience_s]

    def _until_late_s(self) -> float | None:
        """Returns the seconds until the next running change is late, or None."""
        now_s = self._clock_s()
        left_s = [begun_s + self._patience_s - now_s for begun_s in self._begun_s.values()]
        return min((min(each, threading.TIMEOUT_MAX) for each in left_s if each > 0), default=None)

    def _add_thread(self) -> None:
        """Starts a thread if all others are busy. The lock is held."""
        if self._waiting and self._threads <= len(self._begun_s):
            threading.Thread(target=self._work, name="model changes", daemon=True).start()
            self._threads += 1

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            model, change, done = taken
            _make(change, done)
            with self._changed:
                del self._begun_s[model]
                self._changed.notify_all()

    def _take(self) -> "_Change | None":
        """Waits for the next change; None if this thread is no longer needed."""
        with self._changed:
            while not self._is_closed and self._threads <= len(self._begun_s) + 1:
                if (change := self._next()) is not None:
                    self._begun_s[change[0]] = self._clock_s()
                    self._add_thread()
                    return change
                self._changed.wait(self._until_late_s() if self._waiting else None)
            self._threads -= 1
            return None

    def _next(self) -> "_Change | None":
        """Removes and returns the next change that may run, or None. The lock is held."""
        if len(self._late()) < len(self._begun_s) or len(self._begun_s) > MAX_LATE:
            return None
        change = next((each for each in self._waiting if each[0] not in self._begun_s), None)
        if change is not None:
            self._waiting.remove(change)
        return change


_Change = tuple[str, Callable[[], Any], Future[Any]]


def _make(change: Callable[[], Any], done: "Future[Any]") -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        result = change()
    except BaseException as error:  # noqa: BLE001  it is the caller's
        done.set_exception(error)
    else:
        done.set_result(result)
