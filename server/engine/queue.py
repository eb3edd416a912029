"""Waiting requests, by priority and then by their senders' turns. Not thread-safe: the batcher's lock guards it."""

from collections.abc import Hashable, Iterator, Sequence

from ..errors import Cancelled, DeadlineExceeded, Overloaded, QueueFull, RequestError
from .fairness import FairQueue
from .policy import BatchingPolicy, QueuePolicy
from .request import Request


class _Level:
    """The requests of one priority."""

    __slots__ = ("delayed", "policy", "ready")

    def __init__(self, policy: QueuePolicy, *, is_fair: bool) -> None:
        self.policy = policy
        self.ready = FairQueue(is_fair=is_fair)
        # Requests that waited too long, if that delays them instead of refusing them.
        self.delayed = FairQueue(is_fair=is_fair)

    def has_room(self) -> bool:
        return len(self.ready) + len(self.delayed) < self.policy.max_queue_size

    def count(self, sender: Hashable) -> int:
        return self.ready.count(sender) + self.delayed.count(sender)


class RequestQueue:
    """A bounded queue with priorities, deadlines and turns.

    Senders take turns at each priority (`FairQueue`) and share its room: when it is full, a sender with less than its
    share displaces the newest request of the sender with the most. With `preserve_ordering`, requests keep the order of
    their arrival, and nothing is displaced.
    """

    def __init__(self, policy: BatchingPolicy) -> None:
        self._policy = policy
        is_fair = not policy.preserve_ordering
        self._levels = [
            _Level(policy.queue_of(level), is_fair=is_fair) for level in range(1, policy.priority_levels + 1)
        ]
        # Most models have one level and delay no requests: then this is all to examine.
        self._only = self._levels[0] if len(self._levels) == 1 else None
        # A running count, because it is needed several times per request.
        self.size = 0
        """Requests that wait."""
        self.rows = 0
        """Rows of all waiting requests."""
        self.displaced: list[Request] = []
        """Requests displaced by other senders'. The caller drops them and empties this list."""

    def push(self, request: Request) -> bool:
        """Adds a request; returns False if its level is full."""
        level = self._only or self._levels[self._policy.level_of(request.priority) - 1]
        if not (self.size < level.policy.max_queue_size or level.has_room() or self._make_room(level, request)):
            return False
        if request.timeout_ns or level.policy.default_timeout_s:
            _limit_wait(request, level.policy)
        ready = level.ready
        if request.sender == ready.sender and not ready.queues:
            ready.front.append(request)
        else:
            ready.append(request)
        self.size += 1
        self.rows += request.rows
        return True

    def _make_room(self, level: _Level, request: Request) -> bool:
        """Displaces the newest request of the sender with the most at a full level, if it has at least two more than
        this request's sender; returns whether it did."""
        queue = level.ready if len(level.ready) >= len(level.delayed) else level.delayed
        sender, count = queue.greediest()
        if count <= level.count(request.sender) + 1:
            return False
        displaced = queue.newest(sender)
        self.remove(displaced)
        displaced.is_displaced = True
        self.displaced.append(displaced)
        return True

    def push_all(self, requests: Sequence[Request]) -> bool:
        """Adds requests in order; returns False, and adds none, if each must be examined."""
        only = self._only
        if only is not None and not only.policy.default_timeout_s:
            rows, sender, has_one_sender = 0, requests[0].sender if requests else None, True
            for request in requests:
                if request.timeout_ns:
                    return False
                rows += request.rows
                if request.sender != sender:
                    has_one_sender = False
            if self.size + len(requests) <= only.policy.max_queue_size:
                only.ready.extend(requests, has_one_sender=has_one_sender)
                self.size += len(requests)
                self.rows += rows
                return True
        return False

    def remove(self, request: Request) -> bool:
        """Takes a request out; returns whether it was there."""
        for queue in self._queues():
            if queue.remove(request):
                self.size -= 1
                self.rows -= request.rows
                return True
        return False

    def rows_before(self, request: Request) -> int:
        """Returns the maximum number of rows that run before a request pushed now, if no other comes."""
        only = self._only
        if only is not None:
            ready = only.ready
            if request.sender == ready.sender and not ready.queues:
                return self.rows
            return ready.rows_before(request, self.rows)
        own = self._policy.level_of(request.priority)
        rows = [sum(each.rows for each in level.ready.everything()) for level in self._levels[:own]]
        return sum(rows[:-1]) + self._levels[own - 1].ready.rows_before(request, rows[-1])

    def clear(self) -> list[Request]:
        """Removes and returns all requests."""
        everything = list(self.waiting())
        for queue in self._queues():
            queue.clear()
        self.size = self.rows = 0
        return everything

    def waiting(self) -> Iterator[Request]:
        """Yields the requests in the order in which they are to run."""
        for queue in self._queues():
            yield from queue

    def take(
        self, limit: int, *, merge: bool, now_ns: int, done_ns: int = 0, given_up_ns: int = 0
    ) -> tuple[list[Request], int, list[Request]]:
        """Removes the requests of the next run.

        Args:
            limit: maximum rows to merge; the first request is always taken.
            merge: whether more than one may be taken.
            now_ns: the time.
            done_ns: expected end of their run; 0 if unknown.
            given_up_ns: requests that arrived earlier are dropped; 0: none.

        Returns:
            The requests that run together; their rows; and the requests to drop: expired, cancelled or late by then.
        """
        batch: list[Request] = []
        dropped: list[Request] = []
        rows = self._collect(batch, dropped, limit if merge else 0, now_ns, done_ns, given_up_ns)
        self.size -= len(batch)
        self.rows -= rows
        for request in dropped:
            self.size -= 1
            self.rows -= request.rows
        return batch, rows, dropped

    def _collect(
        self,
        batch: list[Request],
        dropped: list[Request],
        limit: int,
        now_ns: int,
        done_ns: int,
        given_up_ns: int,
    ) -> int:
        """Moves front requests into `batch`, and expired or cancelled ones into `dropped`; returns its rows."""
        rows = 0
        for queue in self._queues():
            waiting = queue.front
            while waiting or (queue.queues and queue.advance()):
                request = waiting[0]
                deadline_ns = request.deadline_ns
                if given_up_ns and request.arrived_ns - request.waited_ns < given_up_ns:
                    request.is_given_up = True
                if (
                    request.is_given_up
                    or request.cancelled
                    or (
                        deadline_ns is not None
                        and (deadline_ns <= now_ns or (deadline_ns < done_ns and not request.may_start_late))
                    )
                ):
                    dropped.append(waiting.popleft())
                    continue
                if batch:
                    if rows + request.rows > limit:
                        return rows
                    first = batch[0].layout
                    if request.layout is not first and request.layout.key != first.key:
                        return rows
                batch.append(waiting.popleft())
                rows += request.rows
        return rows

    def expire(self, now_ns: int) -> list[Request]:
        """Removes expired requests, and moves those to delay behind the others; returns the requests to drop."""
        dropped: list[Request] = []
        for level in self._levels:
            for queue in (level.ready, level.delayed):
                dropped += queue.extract(lambda each: each.deadline_ns is not None and each.deadline_ns <= now_ns)
            for late in level.ready.extract(lambda each: each.patience_ns is not None and each.patience_ns <= now_ns):
                level.delayed.append(late)
        self.size -= len(dropped)
        self.rows -= sum(request.rows for request in dropped)
        return dropped

    def next_event_ns(self) -> int | None:
        """Returns when `expire` will next have work, or None."""
        times = []
        for level in self._levels:
            for each in level.ready.everything():
                times += [at for at in (each.deadline_ns, each.patience_ns) if at is not None]
            times += [each.deadline_ns for each in level.delayed.everything() if each.deadline_ns is not None]
        return min(times, default=None)

    def _queues(self) -> Iterator[FairQueue]:
        for level in self._levels:
            yield level.ready
            if level.delayed.front or level.delayed.queues:
                yield level.delayed


def _limit_wait(request: Request, policy: QueuePolicy) -> None:
    """Sets how long a request may wait, and what happens then."""
    default_ns = int(policy.default_timeout_s * 1e9)
    own_ns = request.timeout_ns
    if default_ns and own_ns and policy.allow_timeout_override:
        wait_ns = min(default_ns, own_ns)
    else:
        wait_ns = default_ns or own_ns
    end_ns = request.arrived_ns + wait_ns
    if policy.timeout_action == "delay":
        request.patience_ns = end_ns
    elif request.deadline_ns is None or end_ns < request.deadline_ns:
        request.deadline_ns = end_ns
        request.may_start_late = True


def why_dropped(model: str, request: Request, waited_ns: int) -> RequestError:
    """Returns the error of a request that was dropped after waiting for `model`."""
    if request.cancelled:
        return Cancelled(f"{model}: the caller left before the request ran")
    if request.is_displaced:
        return QueueFull(
            f"{model}: the queue is full, and this sender had most of it; send fewer at once, or retry later"
        )
    if request.is_given_up:
        return Overloaded(
            f"{model}: after a slow run it would have taken longer than this model's latency target; retry elsewhere"
        )
    if request.deadline_ns is not None and request.arrived_ns + waited_ns < request.deadline_ns:
        return Overloaded(
            f"{model}: its run would have ended after this request's deadline; allow more time, or retry elsewhere"
        )
    return DeadlineExceeded(
        f"{model}: the deadline passed after {waited_ns / 1e6:.1f} ms in the queue, before the request ran; "
        "allow more time or send to fewer at once"
    )
