"""Reads config.pbtxt's model_warmup: requests that a model runs before it serves (Triton's ModelWarmup)."""

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelserve.oip import model_config_pb2 as pb
from pixelserve.text import TextError, read_bytes

from ..engine.tensors import Array, TensorSpec, format_shape
from ..errors import RepositoryError, unreadable
from .layout import ModelFolder, is_plain
from .pbtxt import error_at

WARMUP_FOLDER = "warmup"
"""The folder beside config.pbtxt that holds the files of input_data_file."""
# Of all entries together. More than any classifier takes; a typing error in dims must not take the machine's memory.
_MAX_BYTES = 256 << 20
_MAX_RUNS = 1000
# A string of a few bytes takes 60 in memory.
_MAX_STRINGS = 1 << 20


@dataclass(frozen=True)
class Warmup:
    """One request to run."""

    name: str
    """Its name in config.pbtxt."""
    inputs: dict[str, Array]
    """Tensors by input: [batch_size, *dims], or [*dims] for a model without a batch dimension."""
    count: int
    """How often it runs."""


def read_warmups(
    folder: ModelFolder, config: pb.ModelConfig | None, specs: Sequence[TensorSpec], max_batch_size: int
) -> list[Warmup]:
    """Returns the requests that a model runs before it serves.

    Args:
        folder: the model's.
        config: its config.pbtxt, or None.
        specs: the model's inputs.
        max_batch_size: most rows of a request; 0: the tensors have no batch dimension.

    Raises:
        RepositoryError: an entry does not fit the model, its file cannot be read, or all entries are too large.
    """
    entries = config.model_warmup if config is not None else ()
    left = _Left()
    return [_Reader(folder, number, entry, max_batch_size, left).read(specs) for number, entry in enumerate(entries)]


def warmup_files(config: pb.ModelConfig | None) -> Iterator[str]:
    """Yields the names of the files in the warm-up folder that a configuration uses."""
    for entry in config.model_warmup if config is not None else ():
        yield from (each.input_data_file for each in entry.inputs.values() if each.input_data_file)


@dataclass
class _Left:
    """The rest of the budget of all entries."""

    size: int = _MAX_BYTES
    runs: int = _MAX_RUNS


class _Reader:
    """Reads one entry."""

    def __init__(
        self, folder: ModelFolder, number: int, entry: pb.ModelWarmup, max_batch_size: int, left: _Left
    ) -> None:
        self._folder = folder
        self._place = f"model_warmup[{number}]"
        self._entry = entry
        self._max_batch_size = max_batch_size
        self._left = left

    def read(self, specs: Sequence[TensorSpec]) -> Warmup:
        entry, most = self._entry, self._max_batch_size or 1
        # Triton requires at least 1, and treats 0 as 1.
        rows = entry.batch_size or 1
        if rows > most:
            raise self._error("batch_size", f"batch_size is {rows}; expected 1 to {most}", "batch_size: 1")
        if (count := entry.count or 1) > (left := self._left.runs):
            problem = f"count is {count:,}; expected at most {left:,} here, and {_MAX_RUNS:,} for all entries"
            raise self._error("count", problem, f"count: {left}" if left else "")
        self._left.runs -= count
        known = {spec.name: spec for spec in specs}
        if set(entry.inputs) != set(known):
            problem = f"its inputs are {', '.join(sorted(entry.inputs)) or 'none'}; expected {', '.join(known)}"
            raise self._error("inputs", problem)
        inputs = {name: self._tensor(known[name], entry.inputs[name], rows) for name in known}
        return Warmup(entry.name, inputs, count)

    def _tensor(self, spec: TensorSpec, given: pb.ModelWarmup.Input, rows: int) -> Array:
        shape, wanted = tuple(given.dims), spec.shape[1:] if self._max_batch_size else spec.shape
        fits = len(shape) == len(wanted) and all(
            size >= 1 and expected in (size, -1) for size, expected in zip(shape, wanted, strict=True)
        )
        if not fits and not (shape == (1,) and not wanted):
            problem = (
                f"dims of {spec.name} are {format_shape(shape)}; the model's are {format_shape(wanted)}, all above 0"
            )
            raise self._error("inputs", problem)
        if pb.DataType.Name(given.data_type) != spec.datatype.config_name:
            found = pb.DataType.Name(given.data_type)
            raise self._error("inputs", f"data_type of {spec.name} is {found}; expected {spec.datatype.config_name}")
        elements = math.prod(wanted and shape)
        self._left.size -= (size := elements * rows * spec.datatype.dtype.itemsize)
        if self._left.size < 0 or (spec.datatype.is_bytes and elements * rows > _MAX_STRINGS):
            problem = f"{spec.name} has {elements * rows:,} elements of {size:,} bytes"
            limit = f"{_MAX_BYTES >> 20} MiB for all inputs of all entries, and {_MAX_STRINGS:,} strings for each"
            raise self._error("inputs", f"{problem}; expected at most {limit}; write smaller dims")
        one = self._values(spec, given, elements).reshape(wanted and shape)
        if not self._max_batch_size:
            return one
        batch = np.repeat(one[np.newaxis], rows, axis=0)
        if given.WhichOneof("input_data_type") == "random_data":
            # Equal rows would not show whether a row depends on the others.
            batch = _random(spec, batch.shape)
        return batch

    def _values(self, spec: TensorSpec, given: pb.ModelWarmup.Input, elements: int) -> Array:
        match given.WhichOneof("input_data_type"):
            case "input_data_file":
                return self._from_file(spec, given.input_data_file, elements)
            case "random_data":
                return _random(spec, (elements,))
            case "zero_data":
                empty: object = "" if spec.datatype.is_bytes else 0
                return np.full(elements, empty, spec.datatype.dtype)
            case _:
                problem = f"{spec.name} has no data; expected zero_data, random_data or input_data_file"
                raise self._error("inputs", problem)

    def _from_file(self, spec: TensorSpec, name: str, elements: int) -> Array:
        if not is_plain(name):
            raise self._error("inputs", f'input_data_file "{name}" is not the name of a file in {WARMUP_FOLDER}/')
        path = self._folder.path / WARMUP_FOLDER / name
        size = elements * spec.datatype.dtype.itemsize
        try:
            data = read_bytes(path, self._left.size + size)
        except (OSError, TextError) as error:
            raise unreadable(path, error, f"a file, since {self._place} names it") from error
        if not spec.datatype.is_bytes:
            if len(data) != size:
                problem = f"has {len(data)} bytes; {spec.name} takes {size} per row ({elements} {spec.datatype.name})"
                raise RepositoryError(problem, path=path)
            return np.frombuffer(data, spec.datatype.dtype)
        self._left.size -= len(data)
        return np.array(_split(path, data, elements), dtype=object)

    def _error(self, field: str, problem: str, write: str = "") -> RepositoryError:
        return error_at(self._folder.config_file, f"{self._place}.{field}", f"model_warmup: {problem}", write)


def _random(spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    random, dtype = np.random.default_rng(0), spec.datatype.dtype
    if dtype.kind in "iu" and spec.datatype.has_numbers:
        return random.integers(0, min(np.iinfo(dtype).max, 255) + 1, shape).astype(dtype)
    if spec.datatype.is_bytes:
        return np.full(shape, "", dtype)
    if not spec.datatype.has_numbers:
        # bfloat16 is the upper half of a float32.
        return (random.random(shape, np.float32).view(np.uint32) >> 16).astype(dtype)
    return (random.random(shape) < 0.5 if dtype.kind == "b" else random.random(shape)).astype(dtype)


def _split(path: Path, data: bytes, elements: int) -> list[str]:
    """Returns the strings of a file: each its length, a little-endian uint32, and its UTF-8 bytes."""
    found: list[str] = []
    position = 0
    try:
        while position < len(data):
            (length,) = struct.unpack_from("<I", data, position)
            end = position + 4 + length
            if end > len(data):
                raise ValueError(f"element {len(found)} is longer than the file")
            found.append(data[position + 4 : end].decode())
            position = end
        if len(found) != elements:
            raise ValueError(f"it has {len(found)} strings, dims make {elements}")
    except (ValueError, struct.error) as error:
        problem = f"expected strings, each behind its length as a little-endian uint32: {error}"
        raise RepositoryError(problem, path=path) from error
    return found
