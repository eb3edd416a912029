"""One run of a model: requests merged, computed, taken apart; and what is told of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import RequestError
from ..failures import FailureLog
from .instance import Instance
from .request import ComputedBatch, Request
from .tensors import Array


# Not frozen: a frozen one takes three times as long to make, and every run makes one.
@dataclass(slots=True)
class BatchRecord:
    """What one run of a model was; all times in nanoseconds, by the batcher's clock."""

    rows: int
    """Rows of requests computed together."""
    arrived_ns: list[int]
    """When each request came."""
    started_ns: int
    """When its requests were taken."""
    assembled_ns: int
    """When the batch was put together."""
    computed_ns: int
    """When the model was done."""
    done_ns: int
    """When the batch was taken apart and all were answered."""
    padding: int = 0
    """Rows of zeros computed besides, to fill the bucket."""
    waiting: int = 0
    """Requests that there were to take from, those of the run included."""
    outputs: Mapping[str, Array] | None = None
    """What the model gave for these rows, by name; None where it failed."""
    failed: bool = False
    """Whether the session failed; then no request got an answer but an error."""


class RowMismatch(Exception):
    """An output of a merged or padded run does not have one row for each of the inputs'."""


class Observer(Protocol):
    """Told what happens in a batcher; must be quick, and is called from several threads."""

    def on_batch(self, record: BatchRecord) -> None:
        """Called after a batch's requests were answered."""

    def on_dropped(self, error: RequestError, waited_ns: int) -> None:
        """Called for a request that was accepted and then dropped: its deadline passed, its caller left, or the last
        session was given up."""

    def on_worker_restarted(self) -> None:
        """Called when a thread that runs batches died and another took its place."""

    def on_session_rebuilt(self) -> None:
        """Called when a session that kept failing was loaded anew."""


class GuardedObserver:
    """An observer whose failures are logged: no thread, session or answer may be lost to what is told of them."""

    def __init__(self, observer: Observer, log_failure: FailureLog) -> None:
        self._observer = observer
        self._log_failure = log_failure

    def on_batch(self, record: BatchRecord) -> None:
        self._tell(self._observer.on_batch, record)

    def on_dropped(self, error: RequestError, waited_ns: int) -> None:
        self._tell(self._observer.on_dropped, error, waited_ns)

    def on_worker_restarted(self) -> None:
        self._tell(self._observer.on_worker_restarted)

    def on_session_rebuilt(self) -> None:
        self._tell(self._observer.on_session_rebuilt)

    def _tell(self, event: Callable[..., object], *what: Any) -> None:
        try:
            event(*what)
        except BaseException as error:  # noqa: BLE001  an observer must cost no answer
            self._log_failure(error)


class Run:
    """A batch on its way, from the queue to its answers."""

    def __init__(
        self,
        instance: Instance[Any],
        requests: list[Request],
        rows: int,
        ticket: int,
        waiting: int = 0,
        taken_ns: int = 0,
    ) -> None:
        """Takes requests that run together.

        Args:
            instance: computes them.
            requests: the requests, all of one layout.
            rows: their rows.
            ticket: how many batches were taken before this one.
            waiting: requests that there were to take from, these included.
            taken_ns: when they were taken.
        """
        self.instance = instance
        self.requests = requests
        self.ticket = ticket
        self.taken_ns = taken_ns
        self.rows = rows
        self.is_on_arrival = False
        """Whether it is computed on the thread that received its request."""
        self._waiting = waiting
        self._outputs: Mapping[str, Array] | None = None
        self._padded = rows
        self._started_ns = self._assembled_ns = self._computed_ns = 0

    @property
    def compute_ns(self) -> int:
        """Nanoseconds that the session took for the whole run; 0 before."""
        return self._computed_ns - self._assembled_ns

    def compute(self, padded: int, clock_ns: Callable[[], int]) -> ComputedBatch:
        """Computes the batch.

        Args:
            padded: rows to fill it up to.
            clock_ns: the time.

        Raises:
            BaseException: whatever the session raises.
            RowMismatch: an output has not one row for each of the inputs', so that rows cannot be told apart.
        """
        self._padded = padded
        self._started_ns = self._assembled_ns = self._computed_ns = clock_ns()
        try:
            inputs = self.requests[0].layout.merge(self.requests, self.rows, padded)
            self._assembled_ns = clock_ns()
            outputs = self.instance.run(inputs)
            batch = _cut(outputs, self.rows, padded, alone=len(self.requests) == 1)
            self._outputs = batch.outputs
        finally:
            self._computed_ns = clock_ns()
        batch.padded, batch.started_ns = padded, self._started_ns
        batch.assembled_ns, batch.computed_ns = self._assembled_ns, self._computed_ns
        return batch

    def split(self) -> "list[Run]":
        """Returns a run for each of its requests."""
        return [Run(self.instance, [request], request.rows, self.ticket, self._waiting) for request in self.requests]

    def record(self, done_ns: int, *, failed: bool) -> BatchRecord:
        """Returns what the run was, its requests having been answered at `done_ns`."""
        return BatchRecord(
            self.rows,
            [request.arrived_ns for request in self.requests],
            self._started_ns,
            self._assembled_ns,
            self._computed_ns,
            done_ns,
            self._padded - self.rows,
            self._waiting,
            self._outputs,
            failed,
        )


def _cut(outputs: Mapping[str, Array], rows: int, padded: int, *, alone: bool) -> ComputedBatch:
    """Returns a run's outputs without the padding; one request that ran alone may have outputs of any shape."""
    if alone and rows == padded:
        return ComputedBatch(outputs, rows, is_alone=True)
    for name, array in outputs.items():
        # Rows cut from anything else would be another caller's.
        if array.shape[:1] != (padded,):
            raise RowMismatch(f"output {name} has shape {list(array.shape)} for a batch of {padded} rows")
    if padded > rows:
        outputs = {name: array[:rows] for name, array in outputs.items()}
    return ComputedBatch(outputs, rows, is_alone=False)
