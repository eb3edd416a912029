"""Proves that a model computes each row of a batch independently, so requests of different callers may share a run.

A free first dimension need not be a batch: a network exported in training mode normalizes over it, a softmax may run
along it, an output may have it on another axis. Rows computed alone, together, in another order and beside padding must
agree before a server may merge them. The server proves this at load, the export when it writes a version.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .precisions import RULES

Array = npt.NDArray[np.generic]
Tensors = Mapping[str, Array]
Infer = Callable[[Tensors], Tensors]
"""Maps input tensors by name to output tensors by name, with rows along the first axis."""

ROWS = 3
"""Rows of a proof: enough to notice neighbours on both sides, few enough to be cheap."""

_FREE_SIZES = (32, 224, 8, 1)
"""Sizes to try for a free dimension; 32 first, which survives the pooling of most networks."""
# Total elements of all inputs: 128 MiB as float32. Larger inputs gain nothing from merging.
_MOST_ELEMENTS = 1 << 25
# Rows of different magnitudes, which reveal a quantization range taken from the whole batch.
_SCALES = (1.0, 4.0, 0.25)


@dataclass(frozen=True)
class RowProof:
    """Whether rows may share a run."""

    state: Literal["independent", "dependent", "unproven", "single"]
    """independent: rows were computed apart and together, and agree; dependent: they do not; unproven: there was
    nothing to try it with; single: the model never computes more than one row at a time."""
    reason: str
    """The evidence in one sentence, for people."""

    @property
    def allows_merging(self) -> bool:
        """Whether requests of different callers may share a run."""
        return self.state in ("independent", "single")


def prove_rows(
    infer: Infer, inputs: Tensors, *, precision: str | None = None, floor: float = 0.0, padded: int = 0
) -> RowProof:
    """Computes rows alone, together, in reverse, and beside rows of zeros, and compares.

    Args:
        infer: the model; its errors propagate.
        inputs: tensors [rows, ...] with at least two distinct rows.
        precision: a key of `RULES`; None: by each output's element type.
        floor: minimum tolerance, for devices whose kernels differ more.
        padded: rows to pad a batch to; not padded if `inputs` have as many.

    Returns:
        A proof: independent or dependent.
    """
    rows = count_rows(inputs)
    alone = [infer(_take(inputs, [row])) for row in range(rows)]
    compare = _Comparison(precision, floor, alone)
    if (fault := compare.fault(infer(_take(inputs, [0])), [0], "computed a second time")) is not None:
        return RowProof("dependent", f"{fault}: the model draws random numbers, or keeps a state")
    order = list(range(rows))
    attempts = [(order, rows, f"computed with {rows - 1} others"), (order[::-1], rows, "computed in another order")]
    if padded > rows:
        attempts.append((order, padded, f"padded to {padded} rows"))
    for attempt, size, how in attempts:
        if (fault := compare.fault(infer(_take(inputs, attempt, size)), attempt, how, size)) is not None:
            return RowProof("dependent", fault)
    return RowProof(
        "independent",
        f"{rows} rows gave the same alone, together and in another order (largest difference {compare.worst:.1g} "
        f"of the largest value)",
    )


class _Comparison:
    """Compares batches with the same rows alone."""

    def __init__(self, precision: str | None, floor: float, alone: Sequence[Tensors]) -> None:
        self._precision = precision
        self._floor = floor
        self._alone = alone
        self.worst = 0.0
        """Largest accepted difference, as a fraction of the output's largest magnitude."""

    def fault(self, found: Tensors, order: Sequence[int], how: str, size: int = 1) -> str | None:
        """Returns the fault of a batch of `size` rows whose first ones are `order`, or None."""
        for name, batch in found.items():
            parts = [self._alone[row][name] for row in order]
            tail = parts[0].shape[1:]
            for shape, expected in ((parts[0].shape, (1, *tail)), (batch.shape, (size, *tail))):
                if shape != expected or not shape:
                    return (
                        f"output {name} has shape {list(shape)} for a batch of {expected[0]}, so its first axis is "
                        f"not the batch's"
                    )
            if any(part.shape != parts[0].shape for part in parts):
                return f"output {name} has another shape for another row"
            expected_rows = np.concatenate(parts)
            difference, allowed = self._difference(batch[: len(order)], expected_rows)
            if not difference <= allowed:
                return f"output {name} of a row differs by {difference:.2g} of its largest value when it is {how}"
            self.worst = max(self.worst, difference)
        return None

    def _difference(self, found: Array, expected: Array) -> tuple[float, float]:
        """Returns the difference of two tensors and its tolerance, as fractions of the largest magnitude."""
        if found.dtype.kind != "f":
            return (0.0 if np.array_equal(found, expected) else 1.0), 0.0
        precision = self._precision or str(found.dtype)
        wide, other = expected.astype(np.float64), found.astype(np.float64)
        finite = np.isfinite(wide)
        if not np.array_equal(wide[~finite], other[~finite], equal_nan=True) or not np.isfinite(other[finite]).all():
            return float("inf"), 0.0
        scale = float(np.abs(wide[finite]).max(initial=0.0)) or 1.0
        difference = float(np.abs(wide[finite] - other[finite]).max(initial=0.0)) / scale
        return difference, max(RULES.get(precision, RULES["float32"]).rows, self._floor)


def count_rows(inputs: Tensors) -> int:
    """Returns the tensors' number of rows; 0 if there are no tensors or an input has no axes."""
    return min((len(array) if array.ndim else 0 for array in inputs.values()), default=0)


def distinct_rows(inputs: Tensors, most: int = ROWS) -> dict[str, Array]:
    """Returns up to `most` distinct rows; equal rows prove nothing."""
    seen: dict[bytes, int] = {}
    for row in range(count_rows(inputs)):
        # The bytes of Python objects (strings) are their addresses.
        key = b"\0".join(
            repr(array[row : row + 1].tolist()).encode() if array.dtype.hasobject else array[row].tobytes()
            for array in inputs.values()
        )
        seen.setdefault(key, row)
        if len(seen) == most:
            break
    return _take(inputs, list(seen.values()))


def repeat_rows(inputs: Tensors, rows: int) -> dict[str, Array]:
    """Returns a batch of `rows` rows by repeating those of `inputs`."""
    return _take(inputs, [row % count_rows(inputs) for row in range(rows)])


@dataclass(frozen=True)
class Input:
    """The specification of made-up values."""

    dtype: np.dtype[np.generic]
    """Element type; object for strings."""
    shape: tuple[int, ...]
    """Shape with rows along the first axis, which is ignored; negative for free dimensions."""


def made_up_rows(inputs: Mapping[str, Input], rows: int = ROWS) -> Iterator[dict[str, Array]]:
    """Yields batches of made-up values, one per size of free dimensions, the likeliest first.

    Batches of more than 33 million elements are omitted, so there may be none.

    Floats are uniform in [0, 1) times a magnitude per row; uint8 uniform in [0, 255], like pixels; other integers 1 to
    3, which are valid indices of most tables and non-zero divisors; strings are numbers. The values are deterministic.
    """
    is_free = any(size < 0 for each in inputs.values() for size in each.shape[1:])
    for size in _FREE_SIZES if is_free else (1,):
        shapes = {
            name: (rows, *(size if each < 0 else each for each in wanted.shape[1:])) for name, wanted in inputs.items()
        }
        if sum(map(math.prod, shapes.values())) <= _MOST_ELEMENTS:
            random = np.random.default_rng(0)
            yield {name: _made_up(random, wanted.dtype, shapes[name]) for name, wanted in inputs.items()}


def _made_up(random: "np.random.Generator", dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Array:
    if dtype.kind == "f":
        scales = np.resize(_SCALES, shape[0]).astype(np.float32).reshape(-1, *(1 for _ in shape[1:]))
        scaled: Array = (random.random(shape, np.float32) * scales).astype(dtype)
        return scaled
    if dtype.kind == "b":
        return random.random(shape) < 0.5
    if dtype == np.uint8:
        return random.integers(0, 256, shape).astype(dtype)
    numbers = random.integers(1, 4, shape)
    made: npt.NDArray[Any] = numbers.astype(str).astype(object) if dtype.hasobject else numbers.astype(dtype)
    return made


def _take(inputs: Tensors, order: Sequence[int], padded: int = 0) -> dict[str, Array]:
    """Returns rows of tensors in an order, padded with zeros (or empty strings) to `padded` rows."""
    taken = {}
    for name, array in inputs.items():
        part = array[list(order)]
        if padded > len(order):
            shape = (padded - len(order), *part.shape[1:])
            fill = np.full(shape, "", part.dtype) if part.dtype.hasobject else np.zeros(shape, part.dtype)
            part = np.concatenate([part, fill])
        taken[name] = part
    return taken
