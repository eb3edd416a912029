"""Fair order of requests: senders take turns by deficit round robin, and each sender's requests keep their order.

Each round gives a sender credit for one more row, which it saves until its next request fits. So a sender of large
requests gets as many rows as a sender of small ones, and a single row waits for one row of each other sender.
See Shreedhar and Varghese, "Efficient fair queueing using deficit round-robin" (1995).
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from .request import Request

# With more senders, their individual queues and credits are not examined: a refusal must be cheap, however many there
# are.
_MOST_COUNTED = 32


class _SenderQueue:
    """The waiting requests of one sender."""

    __slots__ = ("credit", "requests", "rows", "sender")

    def __init__(self, sender: Hashable, requests: deque[Request], credit: int = 0) -> None:
        self.sender = sender
        self.requests = requests
        self.rows = sum([request.rows for request in requests])
        # Rows that it may run at its turn.
        self.credit = credit


class FairQueue:
    """Waiting requests, in the order in which they will run. Not thread-safe.

    As long as one sender waits, this is a deque, `front`, which its owner may read and change at its left end. When
    others wait too, `front` has at most the one request whose turn it is, and `advance` puts the next one there.

    Args:
        is_fair: whether senders take turns; otherwise the order is that of arrival.
    """

    __slots__ = ("_behind", "_has_begun", "_is_fair", "_ring", "front", "queues", "sender")

    def __init__(self, *, is_fair: bool = True) -> None:
        self._is_fair = is_fair
        self.front: deque[Request] = deque()
        self.sender: Hashable = None
        """Whose requests `front` has, as long as there is only one sender."""
        self.queues: dict[Hashable, _SenderQueue] = {}
        """What each sender has waiting; empty from when the last request is in `front` until a second sender comes."""
        # The same in the order of their turns; it is the first one's turn, for which it may have got its credit.
        self._ring: deque[_SenderQueue] = deque()
        self._has_begun = False
        # Requests in the queues.
        self._behind = 0

    def __len__(self) -> int:
        """Returns the number of waiting requests."""
        return len(self.front) + self._behind

    def __iter__(self) -> Iterator[Request]:
        """Yields the requests in the order in which they will run."""
        if not self.queues:
            yield from self.front
            return
        copy = FairQueue()
        copy.front = self.front.copy()
        copy._ring = deque(_SenderQueue(queue.sender, queue.requests.copy(), queue.credit) for queue in self._ring)
        copy.queues = {queue.sender: queue for queue in copy._ring}
        copy._has_begun = self._has_begun
        while copy.front or copy.advance():
            yield copy.front.popleft()

    def append(self, request: Request) -> None:
        """Adds a request."""
        sender = request.sender
        if not self.queues:
            if not self.front:
                self.sender = sender
            if sender == self.sender or not self._is_fair:
                self.front.append(request)
                return
            self._make_ring()
        queue = self.queues.get(sender)
        if queue is None:
            self._add_queue(sender, deque((request,)))
        else:
            queue.requests.append(request)
            queue.rows += request.rows
            self._behind += 1

    def extend(self, requests: Sequence[Request], *, has_one_sender: bool) -> None:
        """Adds requests in order; `has_one_sender` tells whether all are from one sender."""
        if has_one_sender and requests and not self.queues:
            sender = requests[0].sender
            if not self.front:
                self.sender = sender
            if sender == self.sender:
                self.front.extend(requests)
                return
        for request in requests:
            self.append(request)

    def _make_ring(self) -> None:
        """Makes room for a second sender."""
        rest = self.front
        self.front = deque((rest.popleft(),)) if self._is_reserved else deque()
        if rest:
            self._add_queue(self.sender, rest)
            # This sender has just had a turn, or has it now.
            self._has_begun = True

    @property
    def _is_reserved(self) -> bool:
        """Whether the first request in `front` got its turn while other senders waited."""
        return bool(self.front) and self.front[0].has_turn

    def _add_queue(self, sender: Hashable, requests: deque[Request]) -> None:
        queue = self.queues[sender] = _SenderQueue(sender, requests)
        self._ring.append(queue)
        self._behind += len(requests)

    def advance(self) -> bool:
        """Moves the next request into `front`, which is empty; returns False if none waits."""
        ring = self._ring
        if not ring:
            return False
        queue = ring[0]
        if len(ring) == 1:
            # No other sender waits for its turn.
            queue.credit, self._has_begun = queue.requests[0].rows, True
        else:
            queue = self._whose_turn()
        request = queue.requests.popleft()
        queue.credit -= request.rows
        queue.rows -= request.rows
        self._behind -= 1
        if not queue.requests:
            self._forget(queue)
            self.sender = request.sender
        self.front.append(request)
        request.has_turn = True
        return True

    def _forget(self, queue: _SenderQueue) -> None:
        ring = self._ring
        if ring[0] is queue:
            # The next one's turn has not begun: a sender that arrives now waits behind it.
            ring.popleft()
            self._has_begun = False
        else:
            ring.remove(queue)
        del self.queues[queue.sender]

    def _whose_turn(self) -> _SenderQueue:
        """Rotates to the first sender that may run its first request, and returns it.

        One row per turn: more would let a sender of small requests fill whole runs.
        """
        ring = self._ring
        while True:
            for _ in range(len(ring)):
                queue = ring[0]
                if not self._has_begun:
                    queue.credit += 1
                    self._has_begun = True
                if queue.requests[0].rows <= queue.credit:
                    return queue
                ring.rotate(-1)
                self._has_begun = False
            # Every sender is saving for a large request: skip the rounds in which none can run.
            rounds = min(queue.requests[0].rows - queue.credit for queue in ring) - 1
            for queue in ring:
                queue.credit += rounds

    def rows_before(self, request: Request, rows: int) -> int:
        """Returns the maximum number of rows that run before a request appended now, if no other comes.

        With very many senders this is an estimate: credit saved for large requests is not counted.

        Args:
            request: the request.
            rows: rows of all waiting requests, or more.
        """
        sender = request.sender
        if not self.queues:
            if sender == self.sender or not self._is_fair:
                return rows
            return min(rows, request.rows + (self.front[0].rows if self._is_reserved else 0))
        own = self.queues.get(sender)
        own_rows, credit = (own.rows, own.credit) if own else (0, 0)
        # Rounds until it runs; each gives the others another row.
        rounds = own_rows + request.rows - credit
        before = own_rows + sum(each.rows for each in self.front)
        if len(self._ring) > _MOST_COUNTED:
            return min(rows, before + len(self._ring) * (rounds + 1))
        for queue in self._ring:
            if queue is not own:
                before += min(queue.rows, queue.credit + rounds)
        return before

    def count(self, sender: Hashable) -> int:
        """Returns the number of waiting requests of a sender."""
        if self.queues:
            queue = self.queues.get(sender)
            return len(queue.requests) if queue else 0
        return len(self.front) if sender == self.sender or not self._is_fair else 0

    def greediest(self) -> tuple[Hashable, int]:
        """Returns the sender with the most waiting requests, and their number."""
        if not self.queues:
            return self.sender, len(self.front)
        queue = max(self._ring, key=lambda each: len(each.requests))
        return queue.sender, len(queue.requests)

    def newest(self, sender: Hashable) -> Request:
        """Returns a sender's newest request, which must exist."""
        return self.queues[sender].requests[-1] if self.queues else self.front[-1]

    def remove(self, request: Request) -> bool:
        """Removes a request; returns whether it was there."""
        if request in self.front:
            self.front.remove(request)
            return True
        queue = self.queues.get(request.sender)
        if queue is None or request not in queue.requests:
            return False
        self._keep(queue, deque(each for each in queue.requests if each is not request))
        return True

    def extract(self, is_wanted: Callable[[Request], bool]) -> list[Request]:
        """Removes and returns the requests that satisfy a predicate."""
        found = [each for each in self.everything() if is_wanted(each)]
        if found:
            gone = set(map(id, found))
            self.front = deque(each for each in self.front if id(each) not in gone)
            for queue in list(self._ring):
                self._keep(queue, deque(each for each in queue.requests if id(each) not in gone))
        return found

    def everything(self) -> Iterable[Request]:
        """Yields the requests, each sender's in order."""
        yield from self.front
        for queue in self._ring:
            yield from queue.requests

    def _keep(self, queue: _SenderQueue, requests: deque[Request]) -> None:
        self._behind += len(requests) - len(queue.requests)
        queue.requests, queue.rows = requests, sum([request.rows for request in requests])
        if requests:
            return
        self._forget(queue)
        if not self.queues and self.front:
            self.sender = self.front[0].sender

    def clear(self) -> None:
        """Removes all requests."""
        self.front.clear()
        self._ring.clear()
        self.queues.clear()
        self._behind = 0
