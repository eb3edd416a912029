"""Decides which waiting requests run together, and when. Not thread-safe: the batcher's lock guards it."""

from .policy import BatchingPolicy
from .queue import RequestQueue
from .request import Request


class BatchFormer:
    """Forms batches from a queue by a policy (Triton's dynamic batcher).

    Args:
        queue: the waiting requests.
        policy: when they are merged.
        limit: see the attribute.
    """

    def __init__(self, queue: RequestQueue, policy: BatchingPolicy, limit: int) -> None:
        self._queue = queue
        self._policy = policy
        self.limit = limit
        """Maximum rows merged into a run."""
        self.merge = policy.merge
        """Whether requests are merged at all."""
        self.delay_ns = int(policy.max_queue_delay_s * 1e9) if policy.merge else 0
        """How long the oldest request may wait for others, in nanoseconds."""

    def wait_ns(self, now_ns: int) -> int:
        """Returns how long to wait for a better batch; 0 or less: not at all."""
        if not self.delay_ns:
            return 0
        rows, preferred, oldest_ns, is_closed = self._outlook(now_ns)
        if preferred or is_closed or rows >= self.limit:
            return 0
        return oldest_ns + self.delay_ns - now_ns

    def take(
        self, limit: int, now_ns: int, run_ns: int = 0, given_up_ns: int = 0
    ) -> tuple[list[Request], int, list[Request]]:
        """Removes the requests of the next run from the queue.

        Args:
            limit: maximum rows to merge.
            now_ns: the time.
            run_ns: expected duration of the run, to drop requests that would be late; 0: unknown.
            given_up_ns: see `RequestQueue.take`.

        Returns:
            The requests that run together; their rows; and the expired or cancelled requests to drop.
        """
        if self._policy.preferred_batch_sizes:
            _, preferred, oldest_ns, _ = self._outlook(now_ns)
            # A request whose wait is over takes all others along.
            if preferred and not (self.delay_ns and now_ns - oldest_ns >= self.delay_ns):
                limit = min(limit, preferred)
        done_ns = now_ns + run_ns if run_ns else 0
        return self._queue.take(limit, merge=self.merge, now_ns=now_ns, done_ns=done_ns, given_up_ns=given_up_ns)

    def stop_merging(self) -> None:
        """Runs every request alone from now on."""
        self.merge, self.delay_ns = False, 0

    def _outlook(self, now_ns: int) -> tuple[int, int, int, bool]:
        """Examines what would run together now.

        Returns:
            The rows; the largest preferred size among them (0: none); the earliest arrival; and whether the batch
            cannot grow because a waiting request cannot run with it.
        """
        rows = preferred = 0
        oldest_ns = now_ns
        first: Request | None = None
        for request in self._queue.waiting():
            if first is None:
                first = request
            elif rows + request.rows > self.limit or request.layout.key != first.layout.key:
                return rows, preferred, oldest_ns, True
            rows += request.rows
            oldest_ns = min(oldest_ns, request.arrived_ns)
            if rows in self._policy.preferred_batch_sizes:
                preferred = rows
        return rows, preferred, oldest_ns, False
