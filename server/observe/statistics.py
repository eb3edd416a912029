"""A model version's counters since it was loaded, for the metrics page and ModelStatistics."""

import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from ..engine.run import BatchRecord
from ..engine.tensors import Array
from ..errors import Cancelled, RequestError
from .histogram import Histogram
from .predictions import Predictions

# From the shortest request seen on loopback to one that has waited for seconds; about four buckets an octave near the
# usual latencies, so that a percentile read from them is within a fifth.
REQUEST_SECONDS = (
    *(50e-6, 75e-6, 100e-6, 125e-6, 150e-6, 200e-6, 250e-6, 300e-6, 400e-6, 500e-6, 600e-6, 800e-6),
    *(1e-3, 1.25e-3, 1.5e-3, 2e-3, 2.5e-3, 3e-3, 4e-3, 5e-3, 6e-3, 8e-3),
    *(10e-3, 12.5e-3, 15e-3, 20e-3, 25e-3, 30e-3, 40e-3, 50e-3, 75e-3),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0),
)
# Bounds for the parts of a request's time, several series per version: three per decade.
PHASE_SECONDS = (
    *(50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3),
    *(20e-3, 50e-3, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
)
QUEUE_LENGTH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
PADDING_ROWS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
BATCH_ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512)

_NS_A_SECOND = 10**9
# Runs are kept unprocessed until the numbers are read or there are this many. The request that comes then waits: a
# hundredth of lone requests would be that slow if there were 256 and their predictions were counted apart.
_MOST_PENDING_RUNS = 512
_NUMBERS_A_RUN = 8

# Triton's reasons for a failed request.
_BACKEND, _CANCELED, _REJECTED = "BACKEND", "CANCELED", "REJECTED"


@dataclass(slots=True)
class SizeStats:
    """The runs of one batch size."""

    runs: int = 0
    """Number of runs."""
    input_ns: int = 0
    """Time to assemble them, in nanoseconds."""
    infer_ns: int = 0
    """Time in the model, in nanoseconds."""
    output_ns: int = 0
    """Time to answer them, in nanoseconds."""


@dataclass(slots=True)
class BucketStats:
    """The runs of one batch size, padding included."""

    runs: int = 0
    """Number of runs."""
    infer_ns: int = 0
    """Time in the model, in nanoseconds."""


@dataclass
class VersionStats:
    """A model version's counters since it was loaded; observes a batcher.

    Counters only grow. Runs are added in bulk, a few hundred at a time, which is far cheaper than one by one. Read
    numbers within `folded`, or after `fold` if they need not be consistent with each other.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    """Guards the numbers; batches wait for it."""
    unix_ns: Callable[[], int] = time.time_ns
    """The time of day, nanoseconds since 1970."""
    success: int = 0
    """Requests answered with a result."""
    failure: dict[str, int] = field(default_factory=lambda: dict.fromkeys((_BACKEND, _CANCELED, _REJECTED), 0))
    """Accepted requests without a result, by Triton's reasons."""
    rows: int = 0
    """Rows computed, without padding."""
    padding_rows: int = 0
    """Rows of padding computed to fill buckets."""
    runs: int = 0
    """Successful runs of the model."""
    request_ns: int = 0
    """From arrival to answer, summed over successful requests, like the four below."""
    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    failed_ns: int = 0
    """From arrival to the error, summed over the requests in `failure`."""
    last_run_unix_ns: int = 0
    """When the last successful run was answered, in nanoseconds since 1970; 0 if none was."""
    worker_restarts: int = 0
    """Threads that died and were replaced."""
    session_rebuilds: int = 0
    """Sessions that kept failing and were replaced."""
    sizes: dict[int, SizeStats] = field(default_factory=dict)
    """The runs in `runs`, by rows."""
    # These five observe nanoseconds.
    request_seconds: Histogram = field(default_factory=lambda: Histogram(REQUEST_SECONDS, _NS_A_SECOND))
    queue_seconds: Histogram = field(default_factory=lambda: Histogram(PHASE_SECONDS, _NS_A_SECOND))
    assembly_seconds: Histogram = field(default_factory=lambda: Histogram(PHASE_SECONDS, _NS_A_SECOND))
    compute_seconds: Histogram = field(default_factory=lambda: Histogram(PHASE_SECONDS, _NS_A_SECOND))
    reply_seconds: Histogram = field(default_factory=lambda: Histogram(PHASE_SECONDS, _NS_A_SECOND))
    batch_rows: Histogram = field(default_factory=lambda: Histogram(BATCH_ROWS))
    batch_padding_rows: Histogram = field(default_factory=lambda: Histogram(PADDING_ROWS))
    queue_length: Histogram = field(default_factory=lambda: Histogram(QUEUE_LENGTH))
    buckets: dict[int, BucketStats] = field(default_factory=dict)
    """The runs in `runs`, by rows including padding."""

    predictions: Predictions | None = None
    """Its predictions, if it is a classifier and they are counted."""
    # The numbers of pending runs, one after the other: as records, counting them would take four times as long.
    _pending: "array[int]" = field(default_factory=lambda: array("q"))
    # The arrivals of their requests.
    _arrived_ns: "array[int]" = field(default_factory=lambda: array("q"))

    def on_batch(self, record: BatchRecord) -> None:
        """Adds a batch; each request is charged the batch's whole time, as in Triton."""
        predictions = self.predictions
        if predictions is not None and record.outputs is not None:
            predictions.add(record.outputs[predictions.output])
        with self.lock:
            if record.failed:
                self._add_failed(record)
                return
            self.last_run_unix_ns = self.unix_ns()
            self._pending.fromlist(_numbers(record))
            self._arrived_ns.fromlist(record.arrived_ns)
            if len(self._pending) >= _NUMBERS_A_RUN * _MOST_PENDING_RUNS:
                self._fold()

    def fold(self) -> None:
        """Counts pending runs; until then, the numbers may lack the last few."""
        with self.folded():
            pass

    @contextmanager
    def folded(self) -> Iterator[None]:
        """Holds the lock while numbers are read; they then include all runs so far."""
        with self.lock:
            self._fold()
            yield

    def _fold(self) -> None:
        """Counts pending runs. The lock is held."""
        if not self._pending:
            return
        numbers = np.frombuffer(self._pending, np.int64).reshape(-1, _NUMBERS_A_RUN)
        arrived_ns = np.frombuffer(self._arrived_ns, np.int64)
        # An array cannot grow while NumPy reads it.
        self._pending, self._arrived_ns = array("q"), array("q")
        requests, rows, padding, waiting, started_ns, assembled_ns, computed_ns, done_ns = numbers.T
        phases_ns = assembled_ns - started_ns, computed_ns - assembled_ns, done_ns - computed_ns
        self._add_requests(np.repeat(done_ns, requests) - arrived_ns, np.repeat(started_ns, requests) - arrived_ns)
        self._add_runs(requests, rows, padding, phases_ns)
        self._add_sizes(rows, padding, phases_ns)
        self.queue_length.observe(waiting)
        if self.predictions is not None:
            self.predictions.fold()

    def _add_requests(self, request_ns: Array, queue_ns: Array) -> None:
        self.success += len(request_ns)
        self.request_ns += int(request_ns.sum())
        self.queue_ns += int(queue_ns.sum())
        self.request_seconds.observe(request_ns)
        self.queue_seconds.observe(queue_ns)

    def _add_runs(self, requests: Array, rows: Array, padding: Array, phases_ns: Sequence[Array]) -> None:
        self.runs += len(rows)
        self.rows += int(rows.sum())
        self.padding_rows += int(padding.sum())
        self.batch_rows.observe(rows)
        self.batch_padding_rows.observe(padding)
        input_ns, infer_ns, output_ns = phases_ns
        self.input_ns += int(input_ns @ requests)
        self.infer_ns += int(infer_ns @ requests)
        self.output_ns += int(output_ns @ requests)
        self.assembly_seconds.observe(input_ns)
        self.compute_seconds.observe(infer_ns)
        self.reply_seconds.observe(output_ns)

    def _add_sizes(self, rows: Array, padding: Array, phases_ns: Sequence[Array]) -> None:
        for number, runs, *sums_ns in _by_size(rows, *phases_ns):
            size = self.sizes.setdefault(number, SizeStats())
            size.runs += runs
            size.input_ns += sums_ns[0]
            size.infer_ns += sums_ns[1]
            size.output_ns += sums_ns[2]
        for number, runs, infer_ns in _by_size(rows + padding, phases_ns[1]):
            bucket = self.buckets.setdefault(number, BucketStats())
            bucket.runs += runs
            bucket.infer_ns += infer_ns

    def _add_failed(self, record: BatchRecord) -> None:
        self.failure[_BACKEND] += len(record.arrived_ns)
        self.failed_ns += sum(record.done_ns - arrived_ns for arrived_ns in record.arrived_ns)

    def on_dropped(self, error: RequestError, waited_ns: int) -> None:
        """Counts a request that was dropped before it ran."""
        with self.lock:
            self.failed_ns += waited_ns
            self.failure[_CANCELED if isinstance(error, Cancelled) else _REJECTED] += 1

    def on_worker_restarted(self) -> None:
        """Counts a thread that died and was replaced."""
        with self.lock:
            self.worker_restarts += 1

    def on_session_rebuilt(self) -> None:
        """Counts a session that kept failing and was replaced."""
        with self.lock:
            self.session_rebuilds += 1


def _numbers(record: BatchRecord) -> list[int]:
    """Returns a run's numbers, in the order in which `VersionStats` reads them."""
    counts = [len(record.arrived_ns), record.rows, record.padding, record.waiting]
    return [*counts, record.started_ns, record.assembled_ns, record.computed_ns, record.done_ns]


def _by_size(sizes: Array, *values: Array) -> Iterator[tuple[int, ...]]:
    """Yields each size, its number of runs, and the sums of their values."""
    found, places = np.unique(sizes, return_inverse=True)
    # Summed as float64, which is exact up to a hundred days of nanoseconds.
    sums = (np.bincount(places, each).astype(np.int64).tolist() for each in values)
    yield from zip(found.tolist(), np.bincount(places).tolist(), *sums, strict=True)
