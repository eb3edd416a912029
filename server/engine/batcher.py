"""The queue and the threads in front of a model version's sessions: requests in, one answer each out.

Promises:
- a submitted request gets exactly one answer, through its `on_done`, whatever fails;
- the queue is bounded and refuses at once when it is full;
- a request is never split across batches, and its answer holds its own rows;
- a run that fails is computed request by request, so only a request that fails alone gets an error;
- a merged run whose outputs cannot be taken apart by rows is the last one: from then on each request runs alone;
- one whose deadline passes, or whose caller leaves, while it waits is answered then, and delays nobody;
- `drain` finishes all that was accepted; nothing is accepted after it.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from ..errors import InternalError, InvalidRequest, Overloaded, QueueFull, RequestError, Unavailable, Unloading
from ..failures import FailureLog, guarded
from .curve import UNMEASURED, LatencyCurve
from .former import BatchFormer
from .instance import BrokenInstance, Instance, Start
from .ordering import Turnstile
from .overload import Overload
from .policy import BatchingPolicy
from .queue import RequestQueue, why_dropped
from .request import ComputedBatch, Request
from .run import GuardedObserver, Observer, RowMismatch, Run
from .timer import Timer

# A run that is measured to be shorter may be done on the thread that brought the request: handing it over costs about
# 35 µs, and nothing that waits behind it (other models, refusals, cancellations) notices so little.
INLINE_NS = 300_000

_NEVER_NS = 1 << 62

R = TypeVar("R", bound=Request)

_NO_TIME = {
    "late": "{}: more waits than can be computed before this request's deadline; allow more time, or retry elsewhere",
    "shed": "{}: more is asked of it than it can compute, and too much waits; send less, or retry elsewhere",
}

_Outcomes = list[tuple[Run, ComputedBatch | RequestError]]
"""Runs, and what each came to."""


class Batcher:
    """Merges requests for the sessions of one model version. `submit` may be called from any thread."""

    def __init__(
        self,
        name: str,
        instances: Sequence[Instance[Any]],
        policy: BatchingPolicy,
        observer: Observer,
        log_failure: FailureLog,
        *,
        curve: LatencyCurve = UNMEASURED,
        timer: Timer | None = None,
        on_broken: Callable[[], object] = lambda: None,
        on_unmerged: Callable[[str], object] = lambda _: None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Stores what it is handed; `start` starts a thread for each instance and warms it.

        Args:
            name: what error messages and the threads are called after, such as `mnist-cnn version 1`.
            instances: sessions that compute batches, one at a time each.
            policy: when requests are merged.
            observer: is told what happened.
            log_failure: logs whatever a session or an `on_done` raised, and returns the id under which it did.
            curve: what a run takes, by its size, until `start` has measured it.
            timer: drops requests when their deadlines pass; None: they are dropped when a batch is taken.
            on_broken: called once, when the last session is given up.
            on_unmerged: called once with the reason, when a run has shown that requests must not be merged.
            clock_ns: the time in nanoseconds that deadlines and arrivals are read against.
        """
        self._name = name
        self._policy = policy
        self._observer = GuardedObserver(observer, log_failure)
        self._log_failure = log_failure
        self._timer = timer
        self._on_broken = guarded(on_broken, log_failure)
        self._on_unmerged = guarded(on_unmerged, log_failure)
        self._clock_ns = clock_ns
        self._queue = RequestQueue(policy)
        self._former = BatchFormer(self._queue, policy, 0)
        self._overload = Overload(curve, len(instances), int(policy.shed_delay_s * 1e9))
        self._learn(curve)
        self._free = list(instances)
        self._turnstile = Turnstile() if policy.preserve_ordering else None
        self._tickets = 0
        # Runs that are not answered yet.
        self._running = 0
        self._sleeping = 0
        self._draining = False
        self._broken = ""
        self._row_fault = ""
        # When the timer will look for expired requests.
        self._alarm_ns = _NEVER_NS
        # A bare lock is cheaper to take than a condition.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Starts the threads that run batches, each of which warms its instance first.

        Raises:
            Exception: whatever warming raised; no thread is left.
        """
        starts = [Start() for _ in self._free]
        self._threads = [self._new_thread(instance, start) for instance, start in zip(self._free, starts, strict=True)]
        for thread in self._threads:
            thread.start()
        for start in starts:
            start.done.wait()
        for start in starts:
            if start.error is not None:
                self.drain()
                raise start.error
        if starts[0].curve.sizes:
            self._learn(starts[0].curve)

    def _learn(self, curve: LatencyCurve) -> None:
        """Goes by these run times from now on."""
        self._former.limit = self._policy.limit(curve.best_size)
        # Where nothing is merged, each request is a run.
        self._overload.learn(curve, (self._former.merge and self._former.limit) or 1)

    @property
    def waiting(self) -> int:
        """How many requests are in the queue."""
        return self._queue.size

    @property
    def curve(self) -> LatencyCurve:
        """What a run takes, by its size."""
        return self._overload.curve

    @property
    def limit(self) -> int:
        """Most rows that are merged."""
        return self._former.limit

    @property
    def merges(self) -> bool:
        """Whether requests are merged."""
        return self._former.merge

    @property
    def row_fault(self) -> str:
        """What a run has shown that forbids merging; empty: nothing has."""
        return self._row_fault

    @property
    def broken(self) -> str:
        """Why no session computes any more; empty while one does."""
        return self._broken

    def submit(self, request: Request, may_run: bool = False) -> None:
        """Queues a request; its `on_done` is called later, or before this returns, unless this raises.

        Args:
            request: the request.
            may_run: whether this thread may compute it, where that takes less time than handing it over.

        Raises:
            QueueFull: as many requests wait as may.
            Overloaded: too many wait for its deadline, or have waited for too long.
            Unloading: the batcher is draining.
            Unavailable: its sessions are broken.
        """
        run: Run | None = None
        with self._lock:
            if self._draining or self._broken:
                raise self._refusal()
            now_ns = self._clock_ns()
            if error := self._judge(request, now_ns):
                raise error
            if may_run and self._may_run_here(request):
                run = self._begin(self._free[-1], [request], request.rows, now_ns)
            else:
                self._enqueue(request)
        if run is not None:
            self._run_here(run)
        elif request.cancelled:
            # Its caller left before there was anybody to tell.
            self.drop(request)

    def submit_all(self, requests: Sequence[R]) -> Sequence[tuple[R, RequestError]]:
        """Queues requests in their order, each as `submit` would; returns those that it would not, and what it would
        have raised."""
        with self._lock:
            if self._draining or self._broken:
                return [(request, self._refusal()) for request in requests]
            now_ns = self._clock_ns()
            if self._has_time_for(requests, now_ns) and self._queue.push_all(requests):
                refused: Sequence[tuple[R, RequestError]] = ()
                self._accept(requests)
            else:
                refused = self._enqueue_each(requests, now_ns)
        for request in requests:
            if request.cancelled:
                self.drop(request)
        return refused

    def _enqueue(self, request: Request) -> None:
        if not self._queue.push(request):
            raise self._is_full()
        self._accept((request,))

    def _enqueue_each(self, requests: Sequence[R], now_ns: int) -> Sequence[tuple[R, RequestError]]:
        """Queues requests one by one, which is done where they have to be looked at one by one."""
        refused: list[tuple[R, RequestError]] = []
        for request in requests:
            if error := self._judge(request, now_ns):
                refused.append((request, error))
            elif self._queue.push(request):
                self._accept((request,))
            else:
                refused.append((request, self._is_full()))
        return refused

    def _is_full(self) -> QueueFull:
        return QueueFull(f"{self._name}: {self._queue.size} requests wait, no more are taken; retry later")

    def _has_time_for(self, requests: Sequence[Request], now_ns: int) -> bool:
        """Returns whether all of them can be taken without a look at each."""
        rows, first_ns = 0, None
        for request in requests:
            rows += request.rows
            deadline_ns = request.deadline_ns
            if deadline_ns is not None and (first_ns is None or deadline_ns < first_ns):
                first_ns = deadline_ns
        return self._overload.takes_all(self._queue.rows, rows, first_ns, now_ns)

    def _judge(self, request: Request, now_ns: int) -> Overloaded | None:
        """Returns why there is no time for a request; None: there is."""
        rows = self._queue.rows_before(request)
        refusal = self._overload.judge(rows, request.rows, request.deadline_ns, now_ns)
        # The same words each time: under an overload most of the work is saying no, and these are encoded once.
        return Overloaded(_NO_TIME[refusal].format(self._name)) if refusal else None

    def _accept(self, requests: Sequence[Request]) -> None:
        """Sees to requests that have just been queued."""
        first_ns = _NEVER_NS
        for request in requests:
            request.owner = self
            deadline_ns, patience_ns = request.deadline_ns, request.patience_ns
            if deadline_ns is not None and deadline_ns < first_ns:
                first_ns = deadline_ns
            if patience_ns is not None and patience_ns < first_ns:
                first_ns = patience_ns
        if first_ns < self._alarm_ns:
            self._watch(first_ns)
        if self._sleeping and self._free:
            self._changed.notify(len(requests))

    def drop(self, request: Request) -> None:
        """Takes a cancelled request out of the queue, if it is still there, and answers it."""
        with self._lock:
            found = self._queue.remove(request)
        if found:
            self._drop(request)

    def drain(self, timeout_s: float | None = None) -> bool:
        """Refuses new requests, finishes the accepted ones and ends the threads; returns whether that took no longer
        than `timeout_s`."""
        with self._lock:
            self._draining = True
            self._changed.notify_all()
            has_ended = self._changed.wait_for(lambda: not self._threads and not self._running, timeout_s)
            if has_ended:
                # Whoever still knows this batcher must not keep its sessions in memory.
                self._free.clear()
            return has_ended

    def _refusal(self) -> Unavailable:
        if self._broken:
            return Unavailable(
                f"{self._name} is not ready: {self._broken}; see the server's log, and load the model again"
            )
        return Unloading(f"{self._name} is being unloaded; send the request to another replica or retry")

    def _may_run_here(self, request: Request) -> bool:
        """Returns whether a request that has just come need not wait, and would not keep this thread for long."""
        if self._queue.size or not self._free or self._former.delay_ns or not self._policy.run_on_arrival:
            return False
        deadline_ns = request.deadline_ns
        # The queue knows what a timeout is counted from, and when it has passed.
        if request.timeout_ns or request.cancelled or (deadline_ns is not None and deadline_ns <= self._clock_ns()):
            return False
        run_ns = self.curve.run_ns(request.rows)
        return run_ns is not None and run_ns < INLINE_NS

    # The threads that run batches.

    def _new_thread(self, instance: Instance[Any], start: Start | None = None) -> threading.Thread:
        return threading.Thread(target=self._work, args=(instance, start), name=f"batcher {self._name}", daemon=True)

    def _work(self, own: Instance[Any], start: Start | None) -> None:
        me = threading.current_thread()
        try:
            if start is not None:
                start.run(own)
            while (run := self._take_run(own)) is not None:
                self._run(run)
        except BaseException as error:  # noqa: BLE001  without its thread a model would be silent for ever
            self._log_failure(error)
            self._replace(me, own)
            return
        with self._lock:
            self._threads.remove(me)
            # The others look again whether there is anything left for them.
            self._changed.notify_all()

    def _replace(self, dead: threading.Thread, instance: Instance[Any]) -> None:
        thread = self._new_thread(instance)
        with self._lock:
            self._threads[self._threads.index(dead)] = thread
        thread.start()
        self._observer.on_worker_restarted()

    def _take_run(self, own: Instance[Any]) -> Run | None:
        """Waits for requests and a free instance, best its own; returns what to run, or None at the end."""
        while True:
            dropped: list[Request] = []
            with self._lock:
                if not self._wait():
                    return None
                run = self._next_run(dropped, own)
            self._drop_all(dropped)
            if run is not None:
                return run

    def _wait(self) -> bool:
        """Waits until a batch can be taken; returns False where there will be none."""
        while True:
            wait_s: float | None = None
            if not self._queue.size:
                if self._draining:
                    return False
            elif self._free:
                wait_ns = 0 if self._draining else self._former.wait_ns(self._clock_ns())
                if wait_ns <= 0:
                    return True
                wait_s = wait_ns / 1e9
            self._sleeping += 1
            try:
                self._changed.wait(wait_s)
            finally:
                self._sleeping -= 1

    def _next_run(self, dropped: list[Request], own: Instance[Any]) -> Run | None:
        """Takes the next batch, and an instance for it, `own` where it is free; adds requests to drop to `dropped`."""
        now_ns, limit, run_ns = self._clock_ns(), self._former.limit, 0
        if self._queue.rows > limit:
            if self._policy.limits_batches:
                limit = self._overload.limit(self._policy.max_batch_size, now_ns)
            # Others wait that are in time: it is better to compute those.
            run_ns = self._overload.run_ns(limit)
        requests, rows, gone = self._former.take(limit, now_ns, run_ns)
        dropped += gone
        if not requests:
            return None
        # The newest to be free is the one whose memory is warmest.
        return self._begin(own if own in self._free else self._free[-1], requests, rows, now_ns)

    def _begin(self, instance: Instance[Any], requests: list[Request], rows: int, now_ns: int) -> Run:
        """Takes a free instance for requests that are out of the queue, or never were in it."""
        self._free.remove(instance)
        self._running += 1
        self._overload.begin(self._tickets, rows, now_ns)
        self._tickets += 1
        return Run(instance, requests, rows, self._tickets - 1, self._queue.size + len(requests), now_ns)

    # One run.

    def _run_here(self, run: Run) -> None:
        """Runs a batch on a thread that is not ours, and which must not die of it."""
        try:
            self._run(run)
        except BaseException as error:  # noqa: BLE001  the callers have been told
            self._log_failure(error)

    def _run(self, run: Run) -> None:
        outcomes: _Outcomes = []
        fatal: BaseException | None = None
        try:
            self._compute(run, outcomes)
        except BaseException as error:  # noqa: BLE001  the thread is to die of it, but not before its callers were told
            fatal, failure = error, self._failure(error)
            outcomes += [(rest, failure) for rest in (run.split()[len(outcomes) :] if outcomes else [run])]
        failed = any(isinstance(result, RequestError) for _, result in outcomes)
        if not failed:
            # Another thread may use it while this one answers.
            self._give_back(run.instance, suspect=False)
        if self._turnstile is None:
            self._conclude(run, outcomes)
        else:
            self._turnstile.enter(run.ticket, lambda: self._conclude(run, outcomes))
        if failed:
            # Looking after a session takes time, for which nobody should wait.
            self._give_back(run.instance, suspect=True)
        if fatal is not None:
            raise fatal

    def _compute(self, run: Run, outcomes: _Outcomes) -> None:
        """Computes a run, request by request where it fails as a whole, and adds what each part came to."""
        try:
            outcomes.append((run, run.compute(self._padded(run.rows), self._clock_ns)))
            return
        except RowMismatch as error:
            # A request that runs alone and is not padded gets all that there is, so this is not met twice.
            self._stop_merging(str(error))
        except Exception as error:  # noqa: BLE001  whatever a session raises costs the request that it fails on
            if len(run.requests) == 1:
                outcomes.append((run, self._failure(error)))
                return
        for alone in run.split():
            self._compute(alone, outcomes)

    def _padded(self, rows: int) -> int:
        """Returns the rows that a run is filled up to; padding is merging with zeros, and ends with it."""
        return rows if self._row_fault else self._policy.bucket(rows)

    def _stop_merging(self, reason: str) -> None:
        with self._lock:
            is_first = not self._row_fault
            self._row_fault = self._row_fault or reason
            self._former.stop_merging()
            self._learn(self.curve)
        if is_first:
            self._on_unmerged(reason)

    def _failure(self, error: BaseException) -> RequestError:
        if isinstance(error, InvalidRequest):
            return InvalidRequest(f"{self._name}: {error}")
        request_id = self._log_failure(error)
        return InternalError(
            f"{self._name}: the model failed to run; the server's log has the details under {request_id}"
        )

    def _conclude(self, whole: Run, outcomes: _Outcomes) -> None:
        """Answers a run's requests and tells the observer."""
        try:
            for run, result in outcomes:
                if isinstance(result, RequestError):
                    for request in run.requests:
                        self._answer(request, result)
                else:
                    run.requests[0].succeed_all(run.requests, result, self._log_failure)
                    if result.on_answered is not None:
                        result.on_answered()
                self._observer.on_batch(run.record(self._clock_ns(), failed=isinstance(result, RequestError)))
        finally:
            took_ns = self._clock_ns() - whole.taken_ns
            with self._lock:
                self._overload.end(whole.ticket, whole.rows, took_ns)
                self._running -= 1
                if self._draining:
                    self._changed.notify_all()

    def _give_back(self, instance: Instance[Any], *, suspect: bool) -> None:
        if suspect:
            try:
                if instance.repair():
                    self._observer.on_session_rebuilt()
            except BrokenInstance as error:
                self._log_failure(error)
                self._lose_instance(error)
                return
        with self._lock:
            self._free.append(instance)
            if self._sleeping and self._queue.size:
                self._changed.notify()

    def _lose_instance(self, error: BrokenInstance) -> None:
        """Goes on with the other instances; without one, nothing that waits will ever be computed."""
        with self._lock:
            self._overload.instances -= 1
            if self._overload.instances:
                return
            self._broken = f"its session failed, and failed again when it was loaded anew ({error})"
            stranded = self._queue.clear()
            self._changed.notify_all()
        for request in stranded:
            refused = self._refusal()
            self._answer(request, refused)
            self._observer.on_dropped(refused, self._clock_ns() - request.arrived_ns)
        self._on_broken()

    # Requests that do not run.

    def _watch(self, first_ns: int) -> None:
        """Has the timer look for expired requests at a time that is sooner than the one set."""
        if self._timer is not None:
            self._alarm_ns = first_ns
            self._timer.at(first_ns, self._expire)

    def _expire(self) -> None:
        """Drops what has expired; called by the timer."""
        with self._lock:
            self._alarm_ns = _NEVER_NS
            dropped = self._queue.expire(self._clock_ns())
            if (next_ns := self._queue.next_event_ns()) is not None:
                self._watch(next_ns)
        self._drop_all(dropped)

    def _drop_all(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self._drop(request)

    def _drop(self, request: Request) -> None:
        waited_ns = self._clock_ns() - request.arrived_ns
        error = why_dropped(self._name, request, waited_ns)
        self._answer(request, error)
        self._observer.on_dropped(error, waited_ns)

    def _answer(self, request: Request, error: RequestError) -> None:
        try:
            request.fail(error)
        except Exception as failure:  # noqa: BLE001  a caller that cannot be answered must not strand the others
            self._log_failure(failure)
