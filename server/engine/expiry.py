"""Requests that do not run: their deadline passed or their caller left.

Promise: such a request is answered at that moment, whatever the sessions are doing, and delays no other.
"""

from collections.abc import Callable, Iterable
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
        """Calls `function` at that time, and no longer at the time set before. Must not call it at once."""


class Alarm:
    """When a scheduler's expired requests are next looked for. Not thread-safe: the scheduler's lock guards it."""

    def __init__(self, timer: Clockwork | None) -> None:
        """Takes what rings; None: it never does, and expired requests are dropped when a batch is taken."""
        self._timer = timer
        self.due_ns = NEVER_NS
        """The time it is set to."""
        self.ring: Callable[[], object] = lambda: None
        """What is called then."""

    def set(self, when_ns: int) -> None:
        """Sets it, instead of to what it was set to."""
        if self._timer is not None:
            self.due_ns = when_ns
            self._timer.at(when_ns, self.ring)


class Expiry:
    """Drops requests. Any thread may use it."""

    def __init__(
        self, name: str, scheduler: "Scheduler", alarm: Alarm, answers: "Answers", clock_ns: Callable[[], int]
    ) -> None:
        """Drops what a scheduler finds to be expired when an alarm rings.

        Args:
            name: what error messages call the version.
            scheduler: has the requests.
            alarm: the scheduler's.
            answers: tells their callers.
            clock_ns: the scheduler's clock.
        """
        self._name = name
        self._scheduler = scheduler
        self._answers = answers
        self._clock_ns = clock_ns
        alarm.ring = self.expire

    def expire(self) -> None:
        """Drops what has expired; the timer calls it."""
        self.drop_all(self._scheduler.expire())

    def leave(self, request: Request) -> None:
        """Drops a request whose caller has left, if it still waits."""
        if self._scheduler.remove(request):
            self.drop_all((request,))

    def drop_all(self, requests: Iterable[Request]) -> None:
        """Answers requests that were taken out of the queue."""
        for request in requests:
            waited_ns = self._clock_ns() - request.arrived_ns
            self._answers.drop(request, why_dropped(self._name, request, waited_ns), waited_ns)
