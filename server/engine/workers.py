"""Threads that run batches, split failed runs, and repair sessions.

Guarantees:
- every request of a run is answered, whatever its session, its caller or an observer does;
- a failed run is computed again request by request, so only requests that fail alone get an error;
- after every run its session is returned or given up;
- workers end only when the batcher does.
"""

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import InternalError, InvalidRequest, RequestError
from ..failures import FailureLog, guarded
from ..supervised import Supervisor
from .answers import Answers
from .expiry import Expiry
from .instance import BrokenInstance, Instance, Start
from .ordering import Turnstile
from .policy import BatchingPolicy
from .request import ComputedBatch
from .run import RowMismatch, Run, SafeObserver
from .scheduler import Scheduler

_Outcomes = list[tuple[Run, ComputedBatch | RequestError]]
"""Runs and their outcomes."""


class Workers:
    """Executes a scheduler's runs: on one thread per session, and on any other thread with a run."""

    def __init__(
        self,
        name: str,
        policy: BatchingPolicy,
        scheduler: Scheduler,
        expiry: Expiry,
        answers: Answers,
        observer: SafeObserver,
        log_failure: FailureLog,
        supervisor: Supervisor,
        *,
        on_broken: Callable[[], object],
        on_unmerged: Callable[[str], object],
        clock_ns: Callable[[], int],
    ) -> None:
        """See `Batcher` for the arguments."""
        self._name = name
        self._policy = policy
        self._scheduler = scheduler
        self._expiry = expiry
        self._answers = answers
        self._observer = observer
        self._log_failure = log_failure
        self._supervisor = supervisor
        self._on_broken = guarded(on_broken, log_failure)
        self._on_unmerged = guarded(on_unmerged, log_failure)
        self._clock_ns = clock_ns
        self._turnstile = Turnstile() if policy.preserve_ordering else None

    # The threads.

    def start(self, instances: Sequence[Instance[Any]]) -> list[Start]:
        """Starts one thread per session, which warms it first; returns the outcomes once all are warm.

        Raises:
            RuntimeError: the system cannot start more threads; those already started end with the batcher.
        """
        starts: list[Start] = []
        for instance in instances:
            self._start_one(instance, start := Start())
            starts.append(start)
        for start in starts:
            start.done.wait()
        return starts

    def _start_one(self, instance: Instance[Any], start: Start) -> None:
        thread = self._supervisor.thread(
            f"batcher {self._name}",
            lambda: self._work(instance, start),
            on_restart=self._observer.on_worker_restarted,
        )
        self._scheduler.join()
        try:
            thread.start()
        except BaseException:
            # A thread that never ran never leaves.
            self._scheduler.leave()
            raise

    def _work(self, own: Instance[Any], start: Start) -> None:
        if not start.done.is_set():
            start.run(own)
        while (run := self.take(own)) is not None:
            self.execute(run)
        self._scheduler.leave()

    def take(self, own: Instance[Any]) -> Run | None:
        """Waits for a run and drops expired requests; returns None at the end."""
        while (taken := self._scheduler.take(own)) is not None:
            run, dropped = taken
            if dropped:
                self._expiry.drop_all(dropped)
            if run is not None:
                return run
        return None

    # Runs.

    def execute(self, run: Run) -> None:
        """Computes a run and answers its requests. Thread-safe; raises nothing."""
        outcomes, is_fatal = self._outcomes(run)
        failed = is_fatal
        # Once per run; a generator would take three times as long.
        for _, result in outcomes:
            failed = failed or isinstance(result, RequestError)
        if not failed:
            # Another thread may use the session while this one answers.
            self._scheduler.give_back(run.instance)
        try:
            if self._turnstile is None:
                self._conclude(run, outcomes)
            else:
                self._turnstile.enter(run.ticket, lambda: self._conclude(run, outcomes))
        finally:
            if failed:
                # Repairs take time, which no caller should wait for.
                self._look_after(run.instance)
        if is_fatal and not run.is_on_arrival:
            self._observer.on_worker_restarted()

    def _outcomes(self, run: Run) -> tuple[_Outcomes, bool]:
        """Computes a run; returns the outcomes, and whether something other than an Exception was raised."""
        outcomes: _Outcomes = []
        try:
            self._compute(run, outcomes)
        except BaseException as error:  # noqa: BLE001  its callers need an answer, and the session must be returned
            failure = self._failure(error)
            outcomes += [(rest, failure) for rest in (run.split()[len(outcomes) :] if outcomes else [run])]
            return outcomes, True
        return outcomes, False

    def _compute(self, run: Run, outcomes: _Outcomes) -> None:
        """Computes a run, request by request if it fails as a whole, and appends the outcomes."""
        try:
            outcomes.append((run, run.compute(self._padded(run.rows), self._clock_ns)))
            return
        except RowMismatch as error:
            # A single request without padding gets all outputs, so this cannot recur.
            self._stop_merging(str(error))
        except Exception as error:  # noqa: BLE001  any error of a session must affect only the requests that cause it
            if len(run.requests) == 1:
                outcomes.append((run, self._failure(error)))
                return
        for alone in run.split():
            self._compute(alone, outcomes)

    def _padded(self, rows: int) -> int:
        """Returns a run's rows with padding, which is merging with zeros and stops when merging does."""
        return rows if self._scheduler.row_fault else self._policy.bucket(rows)

    def _stop_merging(self, reason: str) -> None:
        if self._scheduler.stop_merging(reason):
            self._on_unmerged(reason)

    def _failure(self, error: BaseException) -> RequestError:
        if isinstance(error, InvalidRequest):
            return InvalidRequest(f"{self._name}: {error}")
        request_id = self._log_failure(error)
        return InternalError(
            f"{self._name}: the model failed to run; the server's log has the details under {request_id}"
        )

    def _conclude(self, whole: Run, outcomes: _Outcomes) -> None:
        """Answers a run's requests and notifies the observer."""
        try:
            for run, result in outcomes:
                if isinstance(result, RequestError):
                    self._answers.fail(run.requests, result)
                else:
                    self._answers.succeed(run.requests, result)
                self._observer.on_batch(run.record(self._clock_ns(), failed=isinstance(result, RequestError)))
        finally:
            self._scheduler.finish(whole)

    # Failed sessions.

    def _look_after(self, instance: Instance[Any]) -> None:
        """Repairs a session if it caused failures, and returns it or gives it up."""
        try:
            was_rebuilt = instance.repair()
        except BrokenInstance as error:
            self._log_failure(error)
            self._give_up(error)
            return
        self._scheduler.give_back(instance)
        if was_rebuilt:
            self._observer.on_session_rebuilt()

    def _give_up(self, error: BrokenInstance) -> None:
        """Continues with the other sessions; without any, drops waiting requests."""
        stranded = self._scheduler.lose(f"its session failed, and failed again after it was reloaded ({error})")
        if stranded is None:
            return
        for request in stranded:
            self._answers.drop(request, self._scheduler.refusal(), self._clock_ns() - request.arrived_ns)
        self._on_broken()
