"""What goes through a batcher: a request in, an answer out."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ..errors import RequestError
from ..failures import FailureLog
from .tensors import Array


class Layout:
    """What requests must have in common to share a run: names, element types, and shapes without the rows."""

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
        # Python objects (strings) lie elsewhere than in the array's own memory.
        self.is_joinable = not any(dtype.hasobject for dtype in dtypes)

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> "Layout":
        """Returns the layout of arrays with rows along the first axis."""
        return cls(
            list(arrays), [array.dtype for array in arrays.values()], [array.shape[1:] for array in arrays.values()]
        )

    def merge(self, parts: Sequence["Request"], rows: int, padded: int) -> dict[str, Array]:
        """Returns the tensors of requests of this layout, one behind the other, and zeros up to `padded` rows.

        One that is alone and not padded is not copied.
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
    """Is told of a run."""

    def on_answered(self) -> None:
        """Called once all of its requests were answered."""


class Owner(Protocol):
    """Has requests that wait; a `Batcher`."""

    def drop(self, request: "Request") -> None:
        """Takes a cancelled request out of the queue, if it is still there, and answers it."""


class ComputedBatch:
    """The outputs of one run, shared by its requests."""

    padded = 0
    """Rows that were computed, padding among them."""
    started_ns = 0
    """When the run took its requests, by the batcher's clock."""
    assembled_ns = 0
    """When its inputs were put together."""
    computed_ns = 0
    """When its outputs were there."""
    listener: "RunListener | None" = None
    """Is told when all requests were answered; set by the first of them to need it."""
    encoded: tuple[object, object] | None = None
    """What the first request's answer was written from, and what wrote it, which knows the former's type; for the
    others' answers."""

    def __init__(self, outputs: Mapping[str, Array], rows: int, *, is_alone: bool) -> None:
        """Takes a run's outputs.

        Args:
            outputs: tensors by name, without padding.
            rows: rows of the run's requests.
            is_alone: whether one request was the whole run, so that the outputs are its own whatever their shape.
        """
        self.outputs = outputs
        self.rows = rows
        self.is_alone = is_alone
        self.is_by_row = True
        """Whether every output has one row for each of the inputs'."""
        # A generator would take three times as long, and every run makes one of these.
        for array in outputs.values():
            if array.shape[:1] != (rows,):
                self.is_by_row = False

    def rows_of(self, start: int, end: int) -> Mapping[str, Array]:
        """Returns the outputs by name from row `start` to the one before `end`; all there is for one that ran alone."""
        if self.is_alone:
            return self.outputs
        return {name: array[start:end] for name, array in self.outputs.items()}


class Answer:
    """What a request gets when its batch has run."""

    def __init__(self, batch: ComputedBatch, start: int, end: int) -> None:
        """Points at a request's rows of a batch, from `start` to the one before `end`."""
        self._batch = batch
        self._start = start
        self._end = end

    @property
    def outputs(self) -> Mapping[str, Array]:
        """Output tensors by name, the request's own rows along the first axis."""
        return self._batch.rows_of(self._start, self._end)

    @property
    def batch(self) -> ComputedBatch:
        """The run that computed it."""
        return self._batch

    @property
    def batch_rows(self) -> int:
        """Rows that were computed together, padding not counted."""
        return self._batch.rows


class Request:
    """Tensors that wait to be computed, and whom to tell.

    It keeps its tensors either as arrays or as plain bytes: bytes that came from the network become arrays only where
    the request runs alone.
    """

    timeout_ns = 0
    """Nanoseconds from its arrival that its sender lets it wait in the queue; 0: no matter how long."""
    priority = 0
    """Its priority level, 1 the highest; 0: the model's default."""
    cancelled = False
    """Whether the caller has left."""
    patience_ns: int | None = None
    """When it goes behind the others of its level instead of being dropped (Triton's timeout action DELAY)."""
    may_start_late = False
    """Whether its deadline is a limit of its wait only: the run may end after it."""
    sender: Hashable = None
    """Whose turn it takes in the queue; equal for all requests of one sender."""
    is_displaced = False
    """Whether it lost its place in a full queue to a sender that had less."""
    owner: Owner | None = None
    """The batcher that has taken it."""
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
            inputs: all input tensors by name, in the model's order; rows along the first axis where the model has a
                batch dimension.
            rows: rows of every input; 1 for a model without a batch dimension.
            on_done: called exactly once, on whatever thread has the answer. It must not block.
            deadline_s: `time.monotonic()` after which nobody wants the answer.
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
        """All input tensors by name; views of the buffers where these are aligned, which kernels want."""
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

    def succeed(self, batch: ComputedBatch, start: int, end: int) -> None:
        """Gives it its rows of a batch, from `start` to the one before `end`."""
        # One thread has it at a time, so this needs no lock.
        if not self.is_answered:
            self.is_answered = True
            self.on_done(Answer(batch, start, end))

    @staticmethod
    def succeed_all(
        requests: "Sequence[Request]", batch: ComputedBatch, log_failure: FailureLog, first_row: int = 0
    ) -> None:
        """Gives requests their rows of a batch, from `first_row` on; what answering one raises is logged.

        It is the first request's method; the others may be of another kind.
        """
        for request in requests:
            end = first_row + request.rows
            try:
                request.succeed(batch, first_row, end)
            except BaseException as error:  # noqa: BLE001  one caller must not strand the others
                log_failure(error)
            first_row = end

    def fail(self, error: RequestError) -> None:
        """Tells it that there will be no result; does nothing if it is answered already."""
        if not self.is_answered:
            self.is_answered = True
            self.on_done(error)

    def cancel(self) -> None:
        """Tells that the caller has left: a request that has not run is dropped. May be called from any thread."""
        self.cancelled = True
        owner = self.owner
        if owner is not None:
            owner.drop(self)
