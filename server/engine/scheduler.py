"""Decides what runs next: the queue, the idle sessions, and their lock.

Guarantees:
- a request is in exactly one place: the queue, a run, or returned to the caller of the method that removed it;
- the queue is bounded, and a full queue refuses at once;
- a session has one run at a time;
- while requests wait and a session is idle, a worker is awake or has been woken: threads that wait for the end sleep
  elsewhere, so they cannot consume its wake-up;
- `wait_until_idle` returns once all accepted requests are answered and every worker has left.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..errors import Overloaded, QueueFull, RequestError, Unavailable, Unloading
from .arrival import ArrivalRuns
from .curve import LatencyCurve
from .expiry import NEVER_NS, Alarm
from .former import BatchFormer
from .instance import Instance
from .overload import Overload, refused
from .policy import BatchingPolicy
from .queue import RequestQueue
from .request import Owner, Request
from .run import Run
from .target import LatencyTarget, TargetState
from .wakeup import Wakeups

R = TypeVar("R", bound=Request)


class Scheduler:
    """The waiting requests of one model version, and its sessions. Thread-safe.

    Args:
        name: the version's name in error messages.
        instances: sessions that compute batches.
        policy: when requests are merged.
        curve: run time by batch size.
        clock_ns: the clock of deadlines and arrivals.
        alarm: set to the earliest deadline in the queue.
        wakeups: where workers sleep, and where threads wait for the end.
        owner: receives cancellations.
    """

    def __init__(
        self,
        name: str,
        instances: Sequence[Instance[Any]],
        policy: BatchingPolicy,
        curve: LatencyCurve,
        clock_ns: Callable[[], int],
        alarm: Alarm,
        wakeups: Wakeups,
        owner: Owner,
    ) -> None:
        self._name = name
        self._policy = policy
        self._clock_ns = clock_ns
        self._alarm = alarm
        self._owner = owner
        self._queue = RequestQueue(policy)
        self._former = BatchFormer(self._queue, policy, 0)
        self._target = LatencyTarget(int(policy.target_p99_s * 1e9)) if policy.target_p99_s else None
        self._delay_ns = self._former.delay_ns
        self._overload = Overload(curve, len(instances), int(policy.shed_delay_s * 1e9), self._target)
        self._on_arrival = ArrivalRuns()
        self._free = list(instances)
        self._tickets = 0
        # Runs not answered yet, and requests that left without one and are not answered yet.
        self._running = self._leaving = 0
        self._workers = 0
        self._draining = False
        self._is_over = False
        self.broken = ""
        """Why no session is left; empty while there is one."""
        self.row_fault = ""
        """Why merging stopped after a run; empty: it did not."""
        # Two, so a wake-up cannot reach a thread that waits for something else.
        self._lock, self._work, self._idle = wakeups
        self.learn(curve)

    def learn(self, curve: LatencyCurve) -> None:
        """Uses these run times from now on."""
        most = self._overload.best_limit(curve, self._policy.max_batch_size)
        self._former.limit = min(self._policy.limit(curve.best_size), most)
        # Without merging, each request is a run.
        limit = (self._former.merge and self._former.limit) or 1
        self._overload.learn(curve, limit, most if limit > 1 and self._policy.limits_batches else 0)
        if self._target is not None:
            self._former.delay_ns = self._target.delay_ns(self._delay_ns, self._overload.run_ns(limit))

    @property
    def waiting(self) -> int:
        """Number of requests in the queue."""
        return self._queue.size

    @property
    def curve(self) -> LatencyCurve:
        """Run time by batch size."""
        return self._overload.curve

    @property
    def limit(self) -> int:
        """Maximum rows merged into a run."""
        return self._former.limit

    @property
    def target_state(self) -> TargetState | None:
        """State of the latency target; None without one."""
        return None if self._target is None else self._target.state(self._former.delay_ns)

    @property
    def merges(self) -> bool:
        """Whether requests are merged."""
        return self._former.merge

    def submit(self, request: Request, *, may_run: bool) -> Run | None:
        """Queues a request or, if `may_run`, may return it as a run for this thread.

        Raises:
            RequestError: it is refused.
        """
        with self._lock:
            if self._draining or self.broken:
                raise self.refusal()
            now_ns = self._clock_ns()
            if error := self._judge(request, now_ns):
                raise error
            if may_run and self._may_run_here(request, now_ns):
                run = self._begin(self._free[-1], [request], request.rows, now_ns)
                run.is_on_arrival = True
                return run
            if not self._queue.push(request):
                raise self._is_full()
            self._accept((request,))
            return None

    def submit_all(self, requests: Sequence[R]) -> Sequence[tuple[R, RequestError]]:
        """Queues requests in order; returns the refused ones with their errors."""
        with self._lock:
            if self._draining or self.broken:
                return [(request, self.refusal()) for request in requests]
            now_ns = self._clock_ns()
            if self._overload.takes_group(requests, self._queue.rows, now_ns) and self._queue.push_all(requests):
                self._accept(requests)
                return ()
            return self._submit_each(requests, now_ns)

    def _submit_each(self, requests: Sequence[R], now_ns: int) -> Sequence[tuple[R, RequestError]]:
        """Queues requests one by one, if each must be checked."""
        others: list[tuple[R, RequestError]] = []
        for request in requests:
            if error := self._judge(request, now_ns):
                others.append((request, error))
            elif self._queue.push(request):
                self._accept((request,))
            else:
                others.append((request, self._is_full()))
        return others

    def _is_full(self) -> QueueFull:
        return QueueFull(f"{self._name}: {self._queue.size} requests wait, and no more are accepted; retry later")

    def _judge(self, request: Request, now_ns: int) -> Overloaded | None:
        """Returns an error if there is no time for a request, or None."""
        waited_ns = request.age_ns(now_ns) if self._target is not None else 0
        if self._overload.takes_all(self._queue.rows, request.rows, request.deadline_ns, now_ns, waited_ns):
            # Even if everything that waits runs before it.
            return None
        rows = self._queue.rows_before(request)
        refusal = self._overload.judge(rows, request.rows, request.deadline_ns, now_ns, self._queue.rows, waited_ns)
        return refused(self._name, refusal) if refusal else None

    def _accept(self, requests: Sequence[Request]) -> None:
        """Wakes workers and sets the alarm for newly queued requests."""
        first_ns = NEVER_NS
        for request in requests:
            request.owner = self._owner
            deadline_ns, patience_ns = request.deadline_ns, request.patience_ns
            if deadline_ns is not None and deadline_ns < first_ns:
                first_ns = deadline_ns
            if patience_ns is not None and patience_ns < first_ns:
                first_ns = patience_ns
        if first_ns < self._alarm.due_ns:
            self._alarm.set(first_ns)
        if self._free:
            self._work.wake(len(requests))

    def refusal(self) -> Unavailable:
        """Returns the reason why no more requests are accepted."""
        if self.broken:
            return Unavailable(
                f"{self._name} is not ready: {self.broken}; see the server's log, and load the model again"
            )
        return Unloading(f"{self._name} is being unloaded; send the request to another replica or retry")

    def _may_run_here(self, request: Request, now_ns: int) -> bool:
        """Returns whether a new request can run at once, and quickly, on this thread."""
        if self._queue.size or not self._free or self._former.delay_ns or not self._policy.run_on_arrival:
            return False
        deadline_ns = request.deadline_ns
        # The queue applies timeouts.
        if request.timeout_ns or request.cancelled or (deadline_ns is not None and deadline_ns <= now_ns):
            return False
        return self._on_arrival.allows(self._overload.curve.run_ns(request.rows))

    # Requests that leave without a run.

    @property
    def has_displaced(self) -> bool:
        """Whether requests were displaced by other senders' requests, and wait for `take_displaced`."""
        return bool(self._queue.displaced)

    def take_displaced(self) -> list[Request]:
        """Removes and returns the displaced requests, for the caller to drop."""
        with self._lock:
            displaced, self._queue.displaced = self._queue.displaced, []
            self._leaving += len(displaced)
            return displaced

    def remove(self, request: Request) -> bool:
        """Removes a request from the queue, for the caller to drop; returns whether it was there."""
        with self._lock:
            found = self._queue.remove(request)
            self._leaving += found
            self._let_workers_end()
            return found

    def expire(self) -> list[Request]:
        """Removes and returns expired requests, for the caller to drop; sets the alarm for the next deadline."""
        with self._lock:
            self._alarm.due_ns = NEVER_NS
            expired = self._queue.expire(self._clock_ns())
            if (next_ns := self._queue.next_event_ns()) is not None:
                self._alarm.set(next_ns)
            self._leaving += len(expired)
            self._let_workers_end()
            return expired

    def dropped(self, count: int) -> None:
        """Records that requests are answered that these methods removed."""
        with self._lock:
            self._leaving -= count
            if self._draining:
                self._idle.wake_all()

    def join(self) -> None:
        """Counts a worker until it calls `leave`."""
        with self._lock:
            self._workers += 1

    def leave(self) -> None:
        """Stops counting a worker."""
        with self._lock:
            self._workers -= 1
            self._let_workers_end()
            self._idle.wake_all()

    def take(self, own: Instance[Any]) -> tuple[Run | None, list[Request]] | None:
        """Waits for requests and an idle session.

        Args:
            own: the preferred session, if idle.

        Returns:
            A run, if any, and expired or cancelled requests to drop; None at the end.
        """
        with self._lock:
            while True:
                timeout_s: float | None = None
                if not self._queue.size:
                    if self._draining:
                        return None
                elif self._free:
                    wait_ns = 0 if self._draining else self._former.wait_ns(self._clock_ns())
                    if wait_ns <= 0:
                        return self._next_run(own)
                    timeout_s = wait_ns / 1e9
                self._work.sleep(timeout_s)

    def _next_run(self, own: Instance[Any]) -> tuple[Run | None, list[Request]]:
        now_ns, limit, run_ns, given_up_ns = self._clock_ns(), self._former.limit, 0, 0
        if self._queue.rows > limit:
            if self._policy.limits_batches:
                limit = self._overload.limit(self._policy.max_batch_size, now_ns)
            # Other waiting requests are still in time: compute those first.
            run_ns = self._overload.run_ns(limit)
            if self._target is not None:
                given_up_ns = self._target.given_up_ns(now_ns + run_ns)
        requests, rows, dropped = self._former.take(limit, now_ns, run_ns, given_up_ns)
        if not requests:
            return None, dropped
        # The most recently used one, whose memory is warmest.
        return self._begin(own if own in self._free else self._free[-1], requests, rows, now_ns), dropped

    def _begin(self, instance: Instance[Any], requests: list[Request], rows: int, now_ns: int) -> Run:
        """Assigns an idle session to requests that are not in the queue."""
        self._free.remove(instance)
        self._running += 1
        self._overload.begin(self._tickets, rows, now_ns)
        self._tickets += 1
        return Run(instance, requests, rows, self._tickets - 1, self._queue.size + len(requests), now_ns)

    # Runs end.

    def give_back(self, instance: Instance[Any]) -> None:
        """Marks a run's session as idle."""
        with self._lock:
            # Callers that still hold this batcher must not keep its sessions in memory.
            if not self._is_over:
                self._free.append(instance)
            if self._queue.size:
                self._work.wake()

    def finish(self, run: Run) -> None:
        """Records that all requests of a run are answered."""
        now_ns = self._clock_ns()
        with self._lock:
            self._overload.end(run.ticket, run.rows, now_ns - run.taken_ns)
            if self._target is not None:
                self._target.answered(request.age_ns(now_ns) for request in run.requests)
                self.learn(self.curve)
            if run.is_on_arrival:
                self._on_arrival.took(run.compute_ns)
            elif self._on_arrival.owed:
                self._on_arrival.took_elsewhere(self._overload.curve.run_ns(run.rows), run.compute_ns)
            self._running -= 1
            if self._draining:
                self._let_workers_end()
                self._idle.wake_all()

    def lose(self, reason: str) -> list[Request] | None:
        """Gives up one session; if it was the last, returns the waiting requests, else None."""
        with self._lock:
            self._overload.instances -= 1
            if self._overload.instances:
                return None
            self.broken = reason
            stranded = self._queue.clear()
            self._let_workers_end()
            return stranded

    def stop_merging(self, reason: str) -> bool:
        """Stops merging; returns whether requests were merged before."""
        with self._lock:
            is_first = not self.row_fault
            self.row_fault = self.row_fault or reason
            self._former.stop_merging()
            self._delay_ns = 0
            self.learn(self.curve)
            return is_first

    # The end.

    def close(self) -> None:
        """Refuses new requests; workers leave when the queue is empty."""
        with self._lock:
            self._draining = True
            # Wakes workers that wait for larger batches.
            self._work.wake_all()

    def wait_until_idle(self, timeout_s: float | None) -> bool:
        """Waits until all accepted requests are answered and all workers have left; returns False after `timeout_s`.
        Call `close` first."""
        with self._lock:
            end_ns = None if timeout_s is None else self._clock_ns() + int(timeout_s * 1e9)
            while self._workers or self._running or self._leaving or self._queue.displaced:
                left_ns = None if end_ns is None else end_ns - self._clock_ns()
                if left_ns is not None and left_ns <= 0:
                    return False
                self._idle.sleep(None if left_ns is None else left_ns / 1e9)
            self._is_over = True
            self._free.clear()
            return True

    def _let_workers_end(self) -> None:
        if self._draining and not self._queue.size:
            self._work.wake_all()
