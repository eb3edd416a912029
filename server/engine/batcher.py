"""The queue and the thread in front of a model version's session: requests in, one answer each out.

Promises:
- a submitted request gets exactly one answer, through its `on_done`, whatever fails;
- the queue is bounded and refuses at once when it is full;
- a request is never split across batches, and its answer holds its own rows;
- one whose deadline has passed, or whose caller has left, is dropped before it is batched and delays nobody;
- `drain` finishes all that was accepted; nothing is accepted after it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..errors import Cancelled, DeadlineExceeded, InternalError, QueueFull, RequestError, Unavailable
from .tensors import Array


@dataclass(frozen=True)
class BatchingPolicy:
    """When requests are merged into one run."""

    max_batch_size: int
    """Most rows (images) in a run; 0: the model has no batch dimension, and a request is a run."""
    merge: bool
    """Whether requests are merged at all; False: every request is a run of its own."""
    max_queue_size: int
    """Most requests that may wait."""
    max_queue_delay_s: float = 0.0
    """Seconds that the oldest request may wait for others; 0: run at once with what is there."""


@dataclass(frozen=True)
class Answer:
    """What a request gets when its batch has run."""

    outputs: Mapping[str, Array]
    """Output tensors by name, the request's own rows along the first axis."""
    batch_rows: int
    """Rows that were computed together."""


@dataclass(eq=False, slots=True)
class Request:
    """Tensors that wait to be computed, and whom to tell."""

    inputs: Mapping[str, Array]
    """All input tensors by name; rows along the first axis where the model has a batch dimension."""
    rows: int
    """Rows of every input; 1 for a model without a batch dimension."""
    on_done: Callable[[Answer | RequestError], None]
    """Called exactly once, on the batcher's thread. It must not block."""
    deadline_s: float | None = None
    """`time.monotonic()` after which nobody wants the answer."""
    arrived_ns: int = field(default_factory=time.monotonic_ns)
    """`time.monotonic_ns()` when the request was received."""
    cancelled: bool = False
    """Set from any thread when the caller has left."""

    def signature(self) -> tuple[object, ...]:
        """Returns what must be equal for two requests to share a run: every input's shape without its rows."""
        return tuple(array.shape[1:] for array in self.inputs.values())


@dataclass(frozen=True)
class BatchRecord:
    """What one run of a model was and took; all times in nanoseconds."""

    rows: int
    """Rows computed together."""
    request_ns: list[int]
    """For each request, from its arrival to its answer."""
    queue_ns: list[int]
    """For each request, from its arrival to the start of its batch."""
    input_ns: int
    """Assembling the batch."""
    infer_ns: int
    """The model."""
    output_ns: int
    """Taking the batch apart and answering."""
    failed: bool = False
    """Whether the session failed; then no request got an answer but an error."""


class Observer(Protocol):
    """Told what happens in a batcher; must be quick, and is called from several threads."""

    def on_batch(self, record: BatchRecord) -> None:
        """Called after a batch's requests were answered."""

    def on_dropped(self, error: RequestError) -> None:
        """Called for a request that was accepted and then dropped: its deadline passed or its caller left."""


class Runner(Protocol):
    """What a batcher drives; a `Session`, or a fake in tests."""

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Computes all outputs of input tensors, both by name."""


class Batcher:
    """Merges requests for one session. `submit` may be called from any thread."""

    def __init__(
        self,
        name: str,
        session: Runner,
        policy: BatchingPolicy,
        observer: Observer,
        log_failure: Callable[[BaseException], str],
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Stores what it is handed; `start` starts the thread.

        Args:
            name: what error messages and the thread are called after, such as `mnist-cnn version 1`.
            session: computes a batch.
            policy: when requests are merged.
            observer: is told what happened.
            log_failure: logs whatever a session or an `on_done` raised, and returns the id under which it did.
            clock_ns: the time in nanoseconds that deadlines and arrivals are read against.
        """
        self._name = name
        self._session = session
        self._policy = policy
        self._observer = observer
        self._log_failure = log_failure
        self._clock_ns = clock_ns
        self._queue: deque[Request] = deque()
        self._changed = threading.Condition()
        self._draining = False
        self._thread = threading.Thread(target=self._work, name=f"batcher {name}", daemon=True)

    def start(self) -> None:
        """Starts the thread that runs batches."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many requests are in the queue."""
        return len(self._queue)

    def submit(self, request: Request) -> None:
        """Queues a request; its `on_done` is called later, unless this raises.

        Raises:
            QueueFull: as many requests wait as may.
            Unavailable: the batcher is draining.
        """
        with self._changed:
            if self._draining:
                raise Unavailable(f"{self._name} is being unloaded; send the request to another replica or retry")
            if len(self._queue) >= self._policy.max_queue_size:
                raise QueueFull(f"{self._name}: {len(self._queue)} requests wait, no more are taken; retry later")
            self._queue.append(request)
            self._changed.notify()

    def drain(self, timeout_s: float | None = None) -> bool:
        """Refuses new requests, finishes the accepted ones and ends the thread; returns whether that took no longer
        than `timeout_s`."""
        with self._changed:
            self._draining = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (batch := self._take_batch()) is not None:
            if batch:
                self._run(batch)

    def _take_batch(self) -> list[Request] | None:
        """Waits for requests; returns those to run together (none, where all were dropped), or None at the end."""
        dropped: list[Request] = []
        with self._changed:
            while not self._queue:
                if self._draining:
                    return None
                self._changed.wait()
            self._wait_for_company()
            batch = self._pop_batch(dropped)
        for request in dropped:
            self._drop(request)
        return batch

    def _wait_for_company(self) -> None:
        """Waits, at most the queue delay of the oldest request, until there is a full batch."""
        delay_ns = int(self._policy.max_queue_delay_s * 1e9)
        if not delay_ns or not self._policy.merge:
            return
        end_ns = self._queue[0].arrived_ns + delay_ns
        while not self._draining and not self._is_closed():
            left_ns = end_ns - self._clock_ns()
            if left_ns <= 0:
                return
            self._changed.wait(left_ns / 1e9)

    def _is_closed(self) -> bool:
        """Returns whether nothing that may yet come would run with the oldest request."""
        rows = 0
        for request in self._queue:
            if rows and not self._fits(request, self._queue[0], rows):
                return True
            rows += request.rows
        return rows >= self._policy.max_batch_size

    def _pop_batch(self, dropped: list[Request]) -> list[Request]:
        batch: list[Request] = []
        rows = 0
        now_s = self._clock_ns() / 1e9
        while self._queue:
            request = self._queue[0]
            if request.cancelled or (request.deadline_s is not None and request.deadline_s <= now_s):
                dropped.append(self._queue.popleft())
                continue
            if batch and not self._fits(request, batch[0], rows):
                break
            batch.append(self._queue.popleft())
            rows += request.rows
        return batch

    def _fits(self, request: Request, first: Request, rows: int) -> bool:
        return (
            self._policy.merge
            and rows + request.rows <= self._policy.max_batch_size
            and request.signature() == first.signature()
        )

    def _drop(self, request: Request) -> None:
        error: RequestError
        if request.cancelled:
            error = Cancelled(f"{self._name}: the caller left before the request ran")
        else:
            waited_ms = (self._clock_ns() - request.arrived_ns) / 1e6
            error = DeadlineExceeded(
                f"{self._name}: the deadline passed after {waited_ms:.1f} ms in the queue, before the request ran; "
                f"allow more time or send to fewer at once"
            )
        self._answer(request, error)
        self._observer.on_dropped(error)

    def _run(self, batch: list[Request]) -> None:
        start_ns = self._clock_ns()
        rows = sum(request.rows for request in batch)
        try:
            inputs = _assemble(batch)
            assembled_ns = self._clock_ns()
            outputs = self._session.run(inputs)
            computed_ns = self._clock_ns()
            parts = _take_apart(batch, outputs, rows)
        except Exception as error:  # noqa: BLE001  whatever a session raises costs its batch only
            request_id = self._log_failure(error)
            assembled_ns = computed_ns = self._clock_ns()
            failure = InternalError(
                f"{self._name}: the model failed to run; the server's log has the details under {request_id}"
            )
            self._answer_all(batch, lambda _: failure)
            failed = True
        else:
            self._answer_all(batch, lambda index: Answer(parts[index], rows))
            failed = False
        done_ns = self._clock_ns()
        self._observer.on_batch(
            BatchRecord(
                rows=rows,
                request_ns=[done_ns - request.arrived_ns for request in batch],
                queue_ns=[start_ns - request.arrived_ns for request in batch],
                input_ns=assembled_ns - start_ns,
                infer_ns=computed_ns - assembled_ns,
                output_ns=done_ns - computed_ns,
                failed=failed,
            )
        )

    def _answer_all(self, batch: list[Request], answer: Callable[[int], Answer | RequestError]) -> None:
        for index, request in enumerate(batch):
            self._answer(request, answer(index))

    def _answer(self, request: Request, answer: Answer | RequestError) -> None:
        try:
            request.on_done(answer)
        except Exception as error:  # noqa: BLE001  a caller that cannot be answered must not strand the others
            self._log_failure(error)


def _assemble(batch: list[Request]) -> Mapping[str, Array]:
    if len(batch) == 1:
        return batch[0].inputs
    return {name: np.concatenate([request.inputs[name] for request in batch]) for name in batch[0].inputs}


def _take_apart(batch: list[Request], outputs: Mapping[str, Array], rows: int) -> list[Mapping[str, Array]]:
    """Returns each request's own rows of the outputs; one that ran alone gets all of them, whatever their shape."""
    if len(batch) == 1:
        return [outputs]
    for name, array in outputs.items():
        # Rows cut from anything else would be another caller's.
        if array.shape[:1] != (rows,):
            raise ValueError(f"output {name} has shape {array.shape} for a batch of {rows} rows")
    ends = np.cumsum([request.rows for request in batch]).tolist()
    return [
        {name: array[end - request.rows : end] for name, array in outputs.items()}
        for request, end in zip(batch, ends, strict=True)
    ]
