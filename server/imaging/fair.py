"""Orders pictures for decoding: small ones first, senders in turn, without starvation.

Clocks count pixels instead of seconds (weighted fair queueing, Demers, Keshav and Shenker 1989). Each sender's clock
advances by its decoded pixels. The pool's clock advances by every picture's pixels divided by the number of senders;
new senders start at the pool's clock, so idle senders accumulate no credit.

- Between senders: the one whose clock will be earliest after its next picture goes first. Senders of few or small
  pictures overtake senders of large ones, and senders that always have work get equal shares of the pixels. A sender's
  next picture waits for about its own pixels times the number of senders, or for the next picture of each.
- Among one sender's jobs: the smallest goes first, less one pixel for every 64 that its sender has had decoded since
  the job arrived. So a job waits for at most 64 times its own pixels, and up to 64 large jobs do not delay a small one.
  With round robin they would: of eight large requests, the last finishes about when the first does.
"""

import heapq
from collections.abc import Callable, Hashable, Iterator
from itertools import count
from typing import Generic, NamedTuple, TypeVar

# Maximum pixels, in multiples of its own, that a job waits for its sender's other jobs.
_PATIENCE = 64


class Step(NamedTuple):
    """A job's next uninterrupted step, such as decoding one picture."""

    cost: int
    """Its pixels."""
    left: int
    """Pixels left in the job, including this step's."""
    bytes: int
    """Maximum memory while it runs."""


class Place:
    """One job's place in the order."""

    def __init__(self, sender: Hashable, step: Step) -> None:
        self.sender = sender
        self.step = step
        self.tag = 0.0
        self.number = 0
        self.is_waiting = False
        # Pixels of steps that went first because there was too little memory for this one.
        self.overtaken = 0
        # Its sender's decoded pixels when it arrived; None: it has not arrived.
        self.start: float | None = None


P = TypeVar("P", bound=Place)


class _Sender(Generic[P]):
    def __init__(self, clock: float) -> None:
        self.clock = clock
        self.decoded = 0
        self.places = 0
        # Removed places are discarded when they reach the front.
        self.waiting: list[tuple[float, int, P]] = []

    def first(self) -> P | None:
        while self.waiting and not _is_current(self.waiting[0]):
            heapq.heappop(self.waiting)
        return self.waiting[0][2] if self.waiting else None


def _is_current(item: tuple[float, int, P]) -> bool:
    return item[2].is_waiting and item[2].number == item[1]


class FairOrder(Generic[P]):
    """The order of jobs that wait for their next step. Not thread-safe."""

    def __init__(self) -> None:
        self._clock = 0.0
        self._senders: dict[Hashable, _Sender[P]] = {}
        self._numbers = count()

    def add(self, place: P) -> None:
        """Queues a job for its next step; counts new jobs for their sender."""
        sender = self._senders.setdefault(place.sender, _Sender(self._clock))
        if place.start is None:
            place.start = sender.decoded / _PATIENCE
            sender.places += 1
            self.tell_size(place)
        place.number, place.is_waiting, place.overtaken = next(self._numbers), True, 0
        heapq.heappush(sender.waiting, (place.tag, place.number, place))

    def tell_size(self, place: P) -> None:
        """Updates a job's size, which was estimated before it was measured."""
        place.tag = (place.start or 0) + place.step.left

    def remove(self, place: P) -> None:
        """Removes a job that waits or has finished."""
        place.is_waiting = False
        sender = self._senders[place.sender]
        sender.places -= 1
        if not sender.places:
            del self._senders[place.sender]

    def take(self, free_bytes: int) -> P | None:
        """Removes and returns the job to run next, or None if none fits into the free memory.

        If the first job does not fit, others may go before it, up to its own pixels in total.
        """
        place = min(self._firsts(), key=self._finish, default=None)
        if place is None:
            return None
        if place.step.bytes > free_bytes and (place := self._overtaker(place, free_bytes)) is None:
            return None
        place.is_waiting = False
        sender = self._senders[place.sender]
        sender.clock += place.step.cost
        sender.decoded += place.step.cost
        self._clock += place.step.cost / len(self._senders)
        return place

    def _overtaker(self, blocked: P, free_bytes: int) -> P | None:
        allowed = blocked.step.cost - blocked.overtaken
        fitting = [
            place
            for place in self.waiting()
            if place.step.bytes <= free_bytes and place.step.cost <= allowed and place is not blocked
        ]
        place = min(fitting, key=self._finish, default=None)
        if place is not None:
            blocked.overtaken += place.step.cost
        return place

    def _firsts(self) -> Iterator[P]:
        for sender in self._senders.values():
            if (place := sender.first()) is not None:
                yield place

    def _finish(self, place: P) -> tuple[float, float, int]:
        return self._senders[place.sender].clock + place.step.cost, place.tag, place.number

    def waiting(self, is_chosen: Callable[[P], bool] = lambda _: True) -> list[P]:
        """Returns the waiting jobs."""
        return [
            item[2]
            for sender in self._senders.values()
            for item in sender.waiting
            if _is_current(item) and is_chosen(item[2])
        ]

    def last_of_greediest(self, sender: Hashable) -> P | None:
        """Returns the job to displace for one of `sender`, or None if no sender has two more jobs.

        It is the last waiting job of the sender with the most jobs.
        """
        own = self._senders[sender].places if sender in self._senders else 0
        greediest = max(self._senders, key=lambda each: self._senders[each].places, default=None)
        if greediest not in self._senders or self._senders[greediest].places < own + 2:
            return None
        places = self.waiting(lambda place: place.sender == greediest)
        return max(places, key=lambda place: (place.tag, place.number), default=None)
