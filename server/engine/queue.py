"""Where requests wait, by priority and in the order of their arrival. Not thread-safe: the batcher's lock guards it."""

from collections import deque
from collections.abc import Iterator, Sequence

from ..errors import Cancelled, DeadlineExceeded, Overloaded, RequestError
from .policy import BatchingPolicy, QueuePolicy
from .request import Request


class _Level:
    """The requests of one priority."""

    __slots__ = ("delayed", "policy", "ready")

    def __init__(self, policy: QueuePolicy) -> None:
        self.policy = policy
        self.ready: deque[Request] = deque()
        # Those that have waited too long where that makes them last rather than refused.
        self.delayed: deque[Request] = deque()


class RequestQueue:
    """A bounded queue with priorities and deadlines."""

    def __init__(self, policy: BatchingPolicy) -> None:
        """Starts out empty."""
        self._policy = policy
        self._levels = [_Level(policy.queue_of(level)) for level in range(1, policy.priority_levels + 1)]
        # Most models have one level and delay nobody: then this is all there is to look through.
        self._only = self._levels[0] if len(self._levels) == 1 else None
        # Counted rather than added up: this is asked several times for every request.
        self.size = 0
        """Requests that wait."""
        self.rows = 0
        """Rows of all that waits."""

    def push(self, request: Request) -> bool:
        """Takes a request; returns False where its level is full."""
        level = self._only or self._levels[self._policy.level_of(request.priority) - 1]
        if len(level.ready) + len(level.delayed) >= level.policy.max_queue_size:
            return False
        if request.timeout_ns or level.policy.default_timeout_s:
            _limit_wait(request, level.policy)
        level.ready.append(request)
        self.size += 1
        self.rows += request.rows
        return True

    def push_all(self, requests: Sequence[Request]) -> bool:
        """Takes requests in their order; returns False, and takes none, where each has to be looked at."""
        only = self._only
        if only is not None and not only.policy.default_timeout_s:
            room = only.policy.max_queue_size - len(only.ready) - len(only.delayed)
            rows = 0
            for request in requests:
                if request.timeout_ns:
                    return False
                rows += request.rows
            if len(requests) <= room:
                only.ready.extend(requests)
                self.size += len(requests)
                self.rows += rows
                return True
        return False

    def remove(self, request: Request) -> bool:
        """Takes a request out; returns whether it was there."""
        for waiting in self._deques():
            if request in waiting:
                waiting.remove(request)
                self.size -= 1
                self.rows -= request.rows
                return True
        return False

    def rows_before(self, request: Request) -> int:
        """Returns how many rows run before a request that is pushed now."""
        if self._only is not None:
            return self.rows
        own = self._policy.level_of(request.priority)
        return sum(each.rows for level in self._levels[:own] for each in level.ready)

    def clear(self) -> list[Request]:
        """Takes all requests out and returns them."""
        everything = list(self.waiting())
        for requests in self._deques():
            requests.clear()
        self.size = self.rows = 0
        return everything

    def waiting(self) -> Iterator[Request]:
        """Yields the requests in the order in which they are to run."""
        for requests in self._deques():
            yield from requests

    def take(
        self, limit: int, *, merge: bool, now_ns: int, done_ns: int = 0
    ) -> tuple[list[Request], int, list[Request]]:
        """Takes the requests of the next run out.

        Args:
            limit: most rows to merge; the first request is taken whatever its rows.
            merge: whether more than one may be taken.
            now_ns: the time.
            done_ns: when their run will end; 0: not known.

        Returns:
            The requests that run together; their rows; and those that are to be dropped, being expired, cancelled or
            late by then.
        """
        batch: list[Request] = []
        dropped: list[Request] = []
        rows = self._collect(batch, dropped, limit if merge else 0, now_ns, done_ns)
        self.size -= len(batch)
        self.rows -= rows
        for request in dropped:
            self.size -= 1
            self.rows -= request.rows
        return batch, rows, dropped

    def _collect(self, batch: list[Request], dropped: list[Request], limit: int, now_ns: int, done_ns: int) -> int:
        """Moves requests from the front into `batch`, and such as nobody waits for into `dropped`; returns the
        batch's rows."""
        rows = 0
        for waiting in self._deques():
            while waiting:
                request = waiting[0]
                deadline_ns = request.deadline_ns
                if request.cancelled or (
                    deadline_ns is not None
                    and (deadline_ns <= now_ns or (deadline_ns < done_ns and not request.may_start_late))
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
        """Takes out what has expired, and puts behind the others what may only be late; returns what to drop."""
        dropped: list[Request] = []
        for level in self._levels:
            for requests in (level.ready, level.delayed):
                gone = {id(each) for each in requests if each.deadline_ns is not None and each.deadline_ns <= now_ns}
                dropped += _extract(requests, gone)
            late = {id(each) for each in level.ready if each.patience_ns is not None and each.patience_ns <= now_ns}
            level.delayed.extend(_extract(level.ready, late))
        self.size -= len(dropped)
        self.rows -= sum(request.rows for request in dropped)
        return dropped

    def next_event_ns(self) -> int | None:
        """Returns when `expire` will next have something to do; None: never, as it is."""
        times = [each.deadline_ns for each in self.waiting() if each.deadline_ns is not None]
        times += [each.patience_ns for level in self._levels for each in level.ready if each.patience_ns is not None]
        return min(times, default=None)

    def _deques(self) -> Iterator[deque[Request]]:
        for level in self._levels:
            yield level.ready
            if level.delayed:
                yield level.delayed


def _extract(requests: deque[Request], ids: set[int]) -> list[Request]:
    """Takes the requests with these identities out of a deque, and returns them in their order."""
    if not ids:
        return []
    found = [each for each in requests if id(each) in ids]
    kept = [each for each in requests if id(each) not in ids]
    requests.clear()
    requests.extend(kept)
    return found


def _limit_wait(request: Request, policy: QueuePolicy) -> None:
    """Settles how long a request may wait, and what becomes of it then."""
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
    """Returns what a request is told that was dropped after it had waited for `model` for so long."""
    if request.cancelled:
        return Cancelled(f"{model}: the caller left before the request ran")
    if request.deadline_ns is not None and request.arrived_ns + waited_ns < request.deadline_ns:
        return Overloaded(
            f"{model}: its run would have ended after this request's deadline; allow more time, or retry elsewhere"
        )
    return DeadlineExceeded(
        f"{model}: the deadline passed after {waited_ns / 1e6:.1f} ms in the queue, before the request ran; "
        "allow more time or send to fewer at once"
    )
