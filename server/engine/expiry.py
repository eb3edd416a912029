"""Drops requests whose deadline passed or whose caller left.

Promise: such a request is answered at once, whatever the sessions are doing, and delays no other.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from .queue import why_dropped
from .request import Request

if TYPE_CHECKING:
    from .answers import Answers
    from .scheduler import Scheduler

NEVER_NS = 1 << 62


class Clockwork(Protocol):
    """Calls functions at their times; a `Timer`."""

    def at(self, when_ns: int, function: Callable[[], object]) -> None:
        """Calls `function` at that time, replacing the time set before. Must not call it at once."""


class Alarm:
    """When to look next for expired requests. Not thread-safe: the scheduler's lock guards it."""

    def __init__(self, timer: Clockwork | None) -> None:
        """`timer` None: expired requests are dropped only when a batch is taken."""
        self._timer = timer
        self.due_ns = NEVER_NS
        """The time it is set to."""
        self.ring: Callable[[], object] = lambda: None
        """Called at that time."""

    def set(self, when_ns: int) -> None:
        """Sets it to another time."""
        if self._timer is not None:
            self.due_ns = when_ns
            self._timer.at(when_ns, self.ring)


class Expiry:
    """Drops requests. Thread-safe."""

    def __init__(
        self, name: str, scheduler: "Scheduler", alarm: Alarm, answers: "Answers", clock_ns: Callable[[], int]
    ) -> None:
        """Drops a scheduler's expired requests when the alarm fires.

        Args:
            name: the version in error messages.
            scheduler: holds the requests.
            alarm: the scheduler's.
            answers: answers their callers.
            clock_ns: the scheduler's clock.
        """
        self._name = name
        self._scheduler = scheduler
        self._answers = answers
        self._clock_ns = clock_ns
        alarm.ring = self.expire

    def expire(self) -> None:
        """Drops expired requests; called by the timer."""
        self._drop(self._scheduler.expire())

    def leave(self, request: Request) -> None:
        """Drops a request whose caller left, if it is still waiting."""
        if self._scheduler.remove(request):
            self._drop((request,))

    def drop_displaced(self) -> None:
        """Drops the requests that others displaced."""
        if self._scheduler.has_displaced:
            self._drop(self._scheduler.take_displaced())

    def _drop(self, requests: Sequence[Request]) -> None:
        try:
            self.drop_all(requests)
        finally:
            if requests:
                self._scheduler.dropped(len(requests))

    def drop_all(self, requests: Iterable[Request]) -> None:
        """Answers requests that were removed from the queue by a worker, for which a drain waits anyway."""
        for request in requests:
            waited_ns = self._clock_ns() - request.arrived_ns
            self._answers.drop(request, why_dropped(self._name, request, waited_ns), waited_ns)
