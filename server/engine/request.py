"""Requests and answers of a batcher."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ..errors import RequestError
from ..failures import FailureLog
from .tensors import Array


class Layout:
    """The names, element types and shapes (without rows) that requests must share to run together."""

    __slots__ = ("dtypes", "is_joinable", "key", "names", "tails")

    def __init__(self, names: Sequence[str], dtypes: Sequence[np.dtype[Any]], tails: Sequence[tuple[int, ...]]) -> None:
        """Describes tensors.

        Args:
            names: the inputs' names, in the model's order.
            dtypes: their element types.
            tails: their shapes without the first axis, the rows.
        """
        self.names = tuple(names)
        self.dtypes = tuple(dtypes)
        self.tails = tuple(tails)
        self.key = (self.names, self.tails, self.dtypes)
        # Python objects (strings) are stored outside the array's memory.
        self.is_joinable = not any(dtype.hasobject for dtype in dtypes)

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> "Layout":
        """Returns the layout of arrays with rows along the first axis."""
        return cls(
            list(arrays), [array.dtype for array in arrays.values()], [array.shape[1:] for array in arrays.values()]
        )

    def merge(self, parts: Sequence["Request"], rows: int, padded: int) -> dict[str, Array]:
        """Returns the concatenated tensors of requests of this layout, with zeros up to `padded` rows.

        A single, unpadded request is not copied.
        """
        if len(parts) == 1 and rows == padded:
            return parts[0].inputs
        if not self.is_joinable:
            return self._concatenate(parts, padded - rows)
        arrays: dict[str, Array] = {}
        for index, (name, dtype, tail) in enumerate(zip(self.names, self.dtypes, self.tails, strict=True)):
            # Joining bytes takes a tenth of the time of concatenating arrays.
            buffers = [part.buffers[index] for part in parts]
            if padded > rows:
                buffers.append(np.zeros((padded - rows, *tail), dtype))
            arrays[name] = np.frombuffer(b"".join(buffers), dtype).reshape(padded, *tail)
        return arrays

    def _concatenate(self, parts: Sequence["Request"], padding: int) -> dict[str, Array]:
        merged: dict[str, Array] = {}
        for name, dtype, tail in zip(self.names, self.dtypes, self.tails, strict=True):
            fill: Any = "" if dtype.hasobject else 0
            arrays = [part.inputs[name] for part in parts]
            merged[name] = np.concatenate([*arrays, np.full((padding, *tail), fill, dtype)])
        return merged


class RunListener(Protocol):
    """Notified of a run."""

    def on_answered(self) -> None:
        """Called once all of its requests are answered."""


class Owner(Protocol):
    """Holds waiting requests; a `Batcher`."""

    def drop(self, request: "Request") -> None:
        """Removes a cancelled request from the queue, if it is still there, and answers it."""


class ComputedBatch:
    """The outputs of one run, shared by its requests."""

    padded = 0
    """Computed rows, including padding."""
    started_ns = 0
    """When the run took its requests, by the batcher's clock."""
    assembled_ns = 0
    """When its inputs were assembled."""
    computed_ns = 0
    """When its outputs were ready."""
    listener: "RunListener | None" = None
    """Notified when all requests are answered; set by the first request that needs it."""
    encoded: tuple[object, object] | None = None
    """Shared between the requests' answers: the parts of the first answer, and the writer that knows their type."""

    def __init__(self, outputs: Mapping[str, Array], rows: int, *, is_alone: bool) -> None:
        """Takes a run's outputs.

        Args:
            outputs: tensors by name, without padding.
            rows: rows of the run's requests.
            is_alone: whether one request was the whole run, so outputs of any shape are its own.
        """
        self.outputs = outputs
        self.rows = rows
        self.is_alone = is_alone
        self.is_by_row = True
        """Whether every output has one row per input row."""
        # A generator would take three times as long, and every run does this.
        for array in outputs.values():
            if array.shape[:1] != (rows,):
                self.is_by_row = False

    def rows_of(self, start: int, end: int) -> Mapping[str, Array]:
        """Returns rows `start` to `end` (exclusive) of the outputs by name; everything if one request ran alone."""
        if self.is_alone:
            return self.outputs
        return {name: array[start:end] for name, array in self.outputs.items()}


class Answer:
    """A request's result from a run."""

    def __init__(self, batch: ComputedBatch, start: int, end: int) -> None:
        """Refers to a request's rows of a batch, from `start` to `end` (exclusive)."""
        self._batch = batch
        self._start = start
        self._end = end

    @property
    def outputs(self) -> Mapping[str, Array]:
        """Output tensors by name, with the request's own rows along the first axis."""
        return self._batch.rows_of(self._start, self._end)

    @property
    def batch(self) -> ComputedBatch:
        """The run that computed it."""
        return self._batch

    @property
    def rows(self) -> int:
        """The request's own rows."""
        return self._end - self._start

    @property
    def batch_rows(self) -> int:
        """Rows computed together, without padding."""
        return self._batch.rows


class Request:
    """Tensors to compute, and a callback for the answer.

    Tensors are kept as arrays or as plain bytes: bytes from the network become arrays only if the request runs alone.
    """

    waited_ns = 0
    """Time that it may have waited for the receiving thread before `arrived_ns`, in nanoseconds."""
    timeout_ns = 0
    """The sender's limit for its wait in the queue, in nanoseconds; 0: no limit."""
    priority = 0
    """Its priority level, 1 the highest; 0: the model's default."""
    cancelled = False
    """Whether the caller has left."""
    patience_ns: int | None = None
    """When it moves behind the others of its level instead of being dropped (Triton's timeout action DELAY)."""
    may_start_late = False
    """Whether its deadline limits only its wait: the run may end after it."""
    sender: Hashable = None
    """The sender whose turn it takes in the queue; equal for all requests of one sender."""
    has_turn = False
    """Whether it is its sender's turn, and this request is the next to run."""
    is_displaced = False
    """Whether it was displaced from a full queue by a sender with less."""
    is_given_up = False
    """Whether it was dropped because it could not keep the latency target any more."""
    owner: Owner | None = None
    """The batcher that accepted it."""
    is_answered = False
    """Whether `on_done` has been called."""
    _inputs: dict[str, Array] | None = None

    def __init__(
        self,
        inputs: dict[str, Array],
        rows: int,
        on_done: Callable[[Answer | RequestError], None],
        deadline_s: float | None = None,
        arrived_ns: int | None = None,
        *,
        timeout_ns: int = 0,
        priority: int = 0,
        sender: Hashable = None,
    ) -> None:
        """Describes a request; `Batcher.submit` takes it.

        Args:
            inputs: all input tensors by name, in the model's order; rows along the first axis if the model has a batch
                dimension.
            rows: rows of every input; 1 for a model without a batch dimension.
            on_done: called exactly once, on the answering thread. Must not block.
            deadline_s: `time.monotonic()` after which the answer is useless.
            arrived_ns: `time.monotonic_ns()` when the request was received; None: now.
            timeout_ns: see the attribute.
            priority: see the attribute.
            sender: see the attribute.
        """
        self._inputs = inputs
        self.layout = Layout.of(inputs)
        self.buffers: Sequence[Any] = tuple(inputs.values())
        self.rows = rows
        self.on_done = on_done
        self.is_answered = False
        self.deadline_ns = None if deadline_s is None else int(deadline_s * 1e9)
        self.arrived_ns = time.monotonic_ns() if arrived_ns is None else arrived_ns
        self.timeout_ns = timeout_ns
        self.priority = priority
        self.sender = sender

    @property
    def inputs(self) -> dict[str, Array]:
        """All input tensors by name; views of the buffers if those are aligned, as kernels require."""
        inputs = self._inputs
        if inputs is None:
            layout, rows = self.layout, self.rows
            inputs = self._inputs = {}
            for index, buffer in enumerate(self.buffers):
                array = np.frombuffer(buffer, layout.dtypes[index])
                if not array.flags.aligned:
                    array = array.copy()
                inputs[layout.names[index]] = array.reshape(rows, *layout.tails[index])
        return inputs

    def age_ns(self, now_ns: int) -> int:
        """Returns the time since it reached this machine, in nanoseconds."""
        return now_ns - self.arrived_ns + self.waited_ns

    def succeed(self, batch: ComputedBatch, start: int, end: int) -> None:
        """Answers it with rows `start` to `end` (exclusive) of a batch."""
        # Only one thread has it at a time, so this needs no lock.
        if not self.is_answered:
            self.is_answered = True
            self.on_done(Answer(batch, start, end))

    @staticmethod
    def succeed_all(
        requests: "Sequence[Request]", batch: ComputedBatch, log_failure: FailureLog, first_row: int = 0
    ) -> None:
        """Answers requests with their rows of a batch, from `first_row` on; logs errors of answering.

        Called on the first request; the others may be of another kind.
        """
        for request in requests:
            end = first_row + request.rows
            try:
                request.succeed(batch, first_row, end)
            except BaseException as error:  # noqa: BLE001  one caller must not strand the others
                log_failure(error)
            first_row = end

    def fail(self, error: RequestError) -> None:
        """Answers it with an error, unless it is already answered."""
        if not self.is_answered:
            self.is_answered = True
            self.on_done(error)

    def cancel(self) -> None:
        """The caller left: drops the request if it has not run. Thread-safe."""
        self.cancelled = True
        owner = self.owner
        if owner is not None:
            owner.drop(self)
