"""Runs an exported model on the CPU; beside `quantize`, the only module of training that imports ONNX Runtime."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pixelserve.onnx_runtime import ort
from pixelserve.too_new import too_new

from .errors import SourceError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

Array = npt.NDArray[Any]

# Triton's element types by ONNX Runtime's name, and NumPy's.
_TYPES = {
    "tensor(bool)": ("TYPE_BOOL", "?"),
    "tensor(uint8)": ("TYPE_UINT8", "u1"),
    "tensor(uint16)": ("TYPE_UINT16", "u2"),
    "tensor(uint32)": ("TYPE_UINT32", "u4"),
    "tensor(uint64)": ("TYPE_UINT64", "u8"),
    "tensor(int8)": ("TYPE_INT8", "i1"),
    "tensor(int16)": ("TYPE_INT16", "i2"),
    "tensor(int32)": ("TYPE_INT32", "i4"),
    "tensor(int64)": ("TYPE_INT64", "i8"),
    "tensor(float16)": ("TYPE_FP16", "f2"),
    "tensor(float)": ("TYPE_FP32", "f4"),
    "tensor(double)": ("TYPE_FP64", "f8"),
    "tensor(string)": ("TYPE_STRING", "O"),
}
_BATCH = 500
# What ONNX Runtime puts before a reason, such as: [ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : .
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_FATAL = 4


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model."""

    name: str
    """Its name in the graph."""
    config_type: str
    """Its element type as config.pbtxt names it, such as TYPE_UINT8."""
    shape: tuple[int, ...]
    """Its shape in the graph, batch dimension included; -1 where a request chooses."""
    dtype: np.dtype[Any]
    """Its element type in NumPy."""


class OnnxModel:
    """An ONNX model that computes on one thread of the CPU."""

    def __init__(self, content: bytes | Path, *, source: str, as_written: bool = False) -> None:
        """Loads a model.

        Args:
            content: the ONNX file's bytes; or its path, where it keeps weights in files beside it.
            source: what an error calls it.
            as_written: whether every node is computed as it is there; otherwise ONNX Runtime merges some of them.

        Raises:
            SourceError: ONNX Runtime cannot load it, or a tensor is of a kind that is not served.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        # Everything else is in the exception as well.
        options.log_severity_level = _FATAL
        if as_written:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = ort.InferenceSession(content, options, providers=[CPU])
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise SourceError(f"{source}: ONNX Runtime {ort.__version__} cannot load it: {_reason(error)}") from error
        self._source = source
        self.inputs = tuple(_tensor(node, source) for node in self._session.get_inputs())
        self.outputs = tuple(_tensor(node, source) for node in self._session.get_outputs())

    @property
    def batches(self) -> bool:
        """Whether the first dimension of every tensor is free, so that requests can share a run."""
        return all(tensor.shape[:1] == (-1,) for tensor in (*self.inputs, *self.outputs))

    def sample_shape(self, tensor: Tensor) -> tuple[int, ...]:
        """Returns the shape of one sample of a tensor: without the batch dimension where there is one."""
        return tensor.shape[1:] if self.batches else tensor.shape

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Returns all outputs, by name, of inputs by name; both have samples along the first axis."""
        return run_in_parts(self.run_once, inputs, batches=self.batches)

    def run_once(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Returns all outputs, by name, of one run on inputs that have the shapes of the graph.

        Raises:
            SourceError: the model cannot compute these.
        """
        names = [tensor.name for tensor in self.outputs]
        try:
            return dict(zip(names, self._session.run(names, inputs), strict=True))
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise SourceError(f"{self._source}: ONNX Runtime cannot compute the samples: {_reason(error)}") from error


def run_in_parts(
    run: Callable[[Mapping[str, Array]], dict[str, Array]], inputs: Mapping[str, Array], *, batches: bool
) -> dict[str, Array]:
    """Returns the joined outputs of a model run on parts of the inputs, so that memory stays bounded.

    Args:
        run: takes input tensors by name, returns output tensors by name.
        inputs: tensors by name, with samples along the first axis.
        batches: whether `run` takes many samples at once; otherwise each sample is its whole input.
    """
    samples = len(next(iter(inputs.values())))
    if batches:
        slices = (slice(start, start + _BATCH) for start in range(0, samples, _BATCH))
        parts = [run({name: array[part] for name, array in inputs.items()}) for part in slices]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    parts = [run({name: array[index] for name, array in inputs.items()}) for index in range(samples)]
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def version() -> str:
    """Returns ONNX Runtime's version."""
    return str(ort.__version__)


def _reason(error: Exception) -> str:
    if reason := too_new(str(error)):
        return reason
    first = str(error).strip().partition("\n")[0]
    return _CODE.sub("", first) or type(error).__name__


def _tensor(node: Any, source: str) -> Tensor:
    if node.type not in _TYPES:
        raise SourceError(f"{source}: {node.name} is a {node.type}, which cannot be served; expected a dense tensor")
    config_type, code = _TYPES[node.type]
    # A free dimension has a name or None where a fixed one has a number.
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
    return Tensor(node.name, config_type, shape, np.dtype(code))
