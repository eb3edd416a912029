"""One run of a model: merges requests, computes them and splits the outputs; and its record."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import RequestError
from ..failures import FailureLog
from .instance import Instance
from .request import ComputedBatch, Request
from .tensors import Array


# Not frozen: a frozen one takes three times as long to create, and every run creates one.
@dataclass(slots=True)
class BatchRecord:
    """The record of a run; all times in nanoseconds, by the batcher's clock."""

    rows: int
    """Rows of requests computed together."""
    arrived_ns: list[int]
    """Arrival of each request."""
    started_ns: int
    """When its requests were taken."""
    assembled_ns: int
    """When the batch was assembled."""
    computed_ns: int
    """When the model was done."""
    done_ns: int
    """When all requests were answered."""
    padding: int = 0
    """Rows of padding computed to fill the bucket."""
    waiting: int = 0
    """Requests available when the run was formed, including its own."""
    outputs: Mapping[str, Array] | None = None
    """The model's outputs for these rows, by name; None if it failed."""
    failed: bool = False
    """Whether the session failed, so every request got an error."""


class RowMismatch(Exception):
    """An output of a merged or padded run does not have one row per input row."""


class Observer(Protocol):
    """Notified of events in a batcher, from several threads; must be quick."""

    def on_batch(self, record: BatchRecord) -> None:
        """A batch's requests were answered."""

    def on_dropped(self, error: RequestError, waited_ns: int) -> None:
        """An accepted request was dropped: its deadline passed, its caller left, or the last session was given up."""

    def on_worker_restarted(self) -> None:
        """A thread that runs batches died and was replaced."""

    def on_session_rebuilt(self) -> None:
        """A session that kept failing was replaced."""


class SafeObserver:
    """An observer whose errors are logged: they must not cost a thread, session or answer."""

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
        except BaseException as error:  # noqa: BLE001  an observer's error must not cost an answer
            self._log_failure(error)


class Run:
    """A batch, from the queue to its answers."""

    def __init__(
        self,
        instance: Instance[Any],
        requests: list[Request],
        rows: int,
        ticket: int,
        waiting: int = 0,
        taken_ns: int = 0,
    ) -> None:
        """Creates a run of requests.

        Args:
            instance: computes them.
            requests: the requests, all of one layout.
            rows: their rows.
            ticket: number of batches taken before this one.
            waiting: requests available when it was formed, including these.
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
        """Time of the session for the whole run, in nanoseconds; 0 before."""
        return self._computed_ns - self._assembled_ns

    def compute(self, padded: int, clock_ns: Callable[[], int]) -> ComputedBatch:
        """Computes the batch.

        Args:
            padded: rows to pad it to.
            clock_ns: the time.

        Raises:
            BaseException: raised by the session.
            RowMismatch: an output does not have one row per input row, so it cannot be split.
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
        """Returns a separate run for each request."""
        return [Run(self.instance, [request], request.rows, self.ticket, self._waiting) for request in self.requests]

    def record(self, done_ns: int, *, failed: bool) -> BatchRecord:
        """Returns the record of the run, whose requests were answered at `done_ns`."""
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
    """Returns a run's outputs without padding; if one request ran alone, outputs may have any shape."""
    if alone and rows == padded:
        return ComputedBatch(outputs, rows, is_alone=True)
    for name, array in outputs.items():
        # Rows cut from any other shape could be another caller's.
        if array.shape[:1] != (padded,):
            raise RowMismatch(f"output {name} has shape {list(array.shape)} for a batch of {padded} rows")
    if padded > rows:
        outputs = {name: array[:rows] for name, array in outputs.items()}
    return ComputedBatch(outputs, rows, is_alone=False)
