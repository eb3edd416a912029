"""Changes of models: one model's in their order, and different ones one after the other as long as none takes long.

A load measures how long runs take, so two at once would spoil each other's figures. But one that takes longer than
others may be made to wait for is left to itself, so that a load that never ends holds up its own model only.
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
"""Seconds for which other models wait for a change."""
MAX_LATE = 16
"""Most changes that may take longer at once; more are refused. Each holds a thread, and what its model takes."""


class Turns:
    """Makes changes on threads of its own. Every method may be called from any thread."""

    def __init__(self, patience_s: float = PATIENCE_S, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Starts no thread before there is a change.

        Args:
            patience_s: seconds for which the changes of other models wait for one.
            clock_s: the clock.
        """
        self._patience_s = patience_s
        self._clock_s = clock_s
        self._waiting: deque[_Turn] = deque()
        # When the changes that are being made were begun, by their models.
        self._begun_s: dict[str, float] = {}
        self._threads = 0
        self._is_closed = False
        self._changed = threading.Condition(threading.Lock())

    def submit(self, model: str, change: Callable[[], T]) -> "Future[T]":
        """Has a change of a model made, after those of this model that were submitted before.

        Returns:
            What the change returns or raises. It is cancelled if the turns are closed first.

        Raises:
            QueueFull: too many changes take too long.
        """
        done: Future[T] = Future()
        with self._changed:
            if self._is_closed:
                done.cancel()
                return done
            if len(self._late()) >= MAX_LATE:
                raise QueueFull(
                    f"{MAX_LATE} models have been loading for more than {self._patience_s:g} s, and no more are taken; "
                    f"see the server's log for what they are doing"
                )
            self._waiting.append((model, change, done))
            self._add_thread()
            self._changed.notify_all()
        return done

    def is_changing(self, model: str) -> bool:
        """Returns whether a change of this model is being made or waits."""
        with self._changed:
            return model in self._begun_s or any(model == each for each, _, _ in self._waiting)

    def wait(self, changes: "Mapping[str, Future[Any]]") -> None:
        """Waits until changes are made, by their models, but for those that take longer than others wait for."""
        with self._changed:
            while any(not done.done() for model, done in changes.items() if model not in self._late()):
                self._changed.wait(self._until_late_s())

    def close(self) -> bool:
        """Makes no more changes; returns whether none is being made."""
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
        """Returns the seconds until the next change is late; None: none will be."""
        now_s = self._clock_s()
        left_s = [begun_s + self._patience_s - now_s for begun_s in self._begun_s.values()]
        return min((min(each, threading.TIMEOUT_MAX) for each in left_s if each > 0), default=None)

    def _add_thread(self) -> None:
        """Starts a thread if every other makes a change; one more then waits for the next turn. The lock is held."""
        if self._waiting and self._threads <= len(self._begun_s):
            threading.Thread(target=self._work, name="model changes", daemon=True).start()
            self._threads += 1

    def _work(self) -> None:
        while (turn := self._take()) is not None:
            model, change, done = turn
            _make(change, done)
            with self._changed:
                del self._begun_s[model]
                self._changed.notify_all()

    def _take(self) -> "_Turn | None":
        """Waits for the next turn; None: this thread is not needed any more."""
        with self._changed:
            while not self._is_closed and self._threads <= len(self._begun_s) + 1:
                if (turn := self._next()) is not None:
                    self._begun_s[turn[0]] = self._clock_s()
                    self._add_thread()
                    return turn
                self._changed.wait(self._until_late_s() if self._waiting else None)
            self._threads -= 1
            return None

    def _next(self) -> "_Turn | None":
        """Takes out the change whose turn it is; None: it is nobody's yet. The lock is held."""
        if len(self._late()) < len(self._begun_s) or len(self._begun_s) > MAX_LATE:
            return None
        turn = next((each for each in self._waiting if each[0] not in self._begun_s), None)
        if turn is not None:
            self._waiting.remove(turn)
        return turn


_Turn = tuple[str, Callable[[], Any], Future[Any]]


def _make(change: Callable[[], Any], done: "Future[Any]") -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        result = change()
    except BaseException as error:  # noqa: BLE001  it is the caller's
        done.set_exception(error)
    else:
        done.set_result(result)
