"""A model version's queue and workers behind one interface.

Promises:
- a submitted request gets exactly one answer, through its `on_done`, whatever fails;
- a request is never split across batches, and its answer holds its own rows;
- after a merged run whose outputs cannot be split by rows, each request runs alone;
- `drain` finishes all accepted requests; nothing is accepted after it.

`scheduler` decides who runs next, `workers` runs it, `expiry` drops what cannot wait, `answers` answers the callers.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..errors import RequestError
from ..failures import FailureLog
from ..supervised import Supervisor
from .answers import Answers
from .curve import UNMEASURED, LatencyCurve
from .expiry import Alarm, Clockwork, Expiry
from .instance import Instance
from .policy import BatchingPolicy
from .request import Request
from .run import Observer, SafeObserver
from .scheduler import Scheduler
from .target import TargetState
from .wakeup import Wakeups, two_wakeups
from .workers import Workers

R = TypeVar("R", bound=Request)


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
        timer: Clockwork | None = None,
        on_broken: Callable[[], object] = lambda: None,
        on_unmerged: Callable[[str], object] = lambda _: None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        supervisor: Supervisor | None = None,
        wakeups: Callable[[], Wakeups] = two_wakeups,
    ) -> None:
        """Builds the parts; `start` starts a thread for each session and warms it.

        Args:
            name: the name in error messages and thread names, such as `mnist-cnn version 1`.
            instances: sessions, each computing one batch at a time.
            policy: when requests are merged.
            observer: notified of events.
            log_failure: logs an error of a session or an `on_done`, and returns its id in the log.
            curve: run times by size, until `start` has measured them.
            timer: drops requests when their deadlines pass; None: they are dropped when a batch is taken.
            on_broken: called once, when the last session is given up.
            on_unmerged: called once with the reason, when a run shows that requests must not be merged.
            clock_ns: the clock of deadlines and arrivals, in nanoseconds.
            supervisor: supervises the threads; None: only their failures are logged.
            wakeups: creates the lock and the conditions that threads wait for; a simulation has its own.
        """
        told = SafeObserver(observer, log_failure)
        answers = Answers(name, told, log_failure)
        alarm = Alarm(timer)
        self._instances: Sequence[Instance[Any]] = instances
        self._scheduler = Scheduler(name, instances, policy, curve, clock_ns, alarm, wakeups(), self)
        self._expiry = Expiry(name, self._scheduler, alarm, answers, clock_ns)
        self._workers = Workers(
            name,
            policy,
            self._scheduler,
            self._expiry,
            answers,
            told,
            log_failure,
            supervisor or Supervisor(log_failure),
            on_broken=on_broken,
            on_unmerged=on_unmerged,
            clock_ns=clock_ns,
        )

    def start(self) -> None:
        """Starts the threads that run batches; each first warms its session.

        Raises:
            Exception: raised by warming, or because a thread cannot be started; no thread is left.
        """
        try:
            starts = self._workers.start(self._instances)
            for start in starts:
                if start.error is not None:
                    raise start.error
        except BaseException:
            self.drain()
            raise
        self._instances = ()
        if starts[0].curve.sizes:
            self._scheduler.learn(starts[0].curve)

    @property
    def waiting(self) -> int:
        """Number of requests in the queue."""
        return self._scheduler.waiting

    @property
    def curve(self) -> LatencyCurve:
        """Run times by size."""
        return self._scheduler.curve

    @property
    def limit(self) -> int:
        """Maximum rows merged into a run."""
        return self._scheduler.limit

    @property
    def target_state(self) -> TargetState | None:
        """The state of the latency target; None without one."""
        return self._scheduler.target_state

    @property
    def merges(self) -> bool:
        """Whether requests are merged."""
        return self._scheduler.merges

    @property
    def row_fault(self) -> str:
        """Why merging is forbidden, as shown by a run; empty if it is allowed."""
        return self._scheduler.row_fault

    @property
    def broken(self) -> str:
        """Why no session computes any more; empty while one does."""
        return self._scheduler.broken

    def submit(self, request: Request, may_run: bool = False) -> None:
        """Queues a request; unless this raises, its `on_done` is called later or before this returns.

        Args:
            request: the request.
            may_run: whether this thread may compute it, if that is faster than handing it over.

        Raises:
            QueueFull: the queue is full.
            Overloaded: it would miss its deadline or the latency target, or the queue has been too long.
            Unloading: the batcher is draining.
            Unavailable: its sessions are broken.
        """
        run = self._scheduler.submit(request, may_run=may_run)
        self._expiry.drop_displaced()
        if run is not None:
            self._workers.execute(run)
        elif request.cancelled:
            # Its caller left before the batcher knew it.
            self.drop(request)

    def submit_all(self, requests: Sequence[R]) -> Sequence[tuple[R, RequestError]]:
        """Queues requests in order, like `submit`; returns the refused ones with the errors `submit` would raise."""
        refused = self._scheduler.submit_all(requests)
        self._expiry.drop_displaced()
        for request in requests:
            if request.cancelled:
                self.drop(request)
        return refused

    def drop(self, request: Request) -> None:
        """Removes a cancelled request from the queue, if it is still there, and answers it."""
        self._expiry.leave(request)

    def drain(self, timeout_s: float | None = None) -> bool:
        """Refuses new requests, finishes accepted ones and ends the threads; returns whether that was done in time."""
        self._scheduler.close()
        return self._scheduler.wait_until_idle(timeout_s)
