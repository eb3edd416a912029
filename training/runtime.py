"""Runs an exported model on the CPU. Only this module and `quantize` import ONNX Runtime in training."""

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

# Triton's and NumPy's element types by ONNX Runtime's name.
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
# ONNX Runtime's prefix before a reason, such as [ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : .
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_FATAL = 4


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model."""

    name: str
    """Its name in the graph."""
    config_type: str
    """Its element type in config.pbtxt, such as TYPE_UINT8."""
    shape: tuple[int, ...]
    """Its shape in the graph with the batch dimension; -1 for free dimensions."""
    dtype: np.dtype[Any]
    """Its element type in NumPy."""


class OnnxModel:
    """An ONNX model that runs on one CPU thread."""

    def __init__(self, content: bytes | Path, *, source: str, as_written: bool = False) -> None:
        """Loads a model.

        Args:
            content: the ONNX file's bytes, or its path if it keeps weights in files beside it.
            source: its name in errors.
            as_written: whether to run every node as written, instead of letting ONNX Runtime fuse nodes.

        Raises:
            SourceError: ONNX Runtime cannot load it, or a tensor's kind is not supported.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        # Everything else is also in the exception.
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
        """Whether the first dimension of every tensor is free, so requests can share a run."""
        return all(tensor.shape[:1] == (-1,) for tensor in (*self.inputs, *self.outputs))

    def sample_shape(self, tensor: Tensor) -> tuple[int, ...]:
        """Returns the shape of one sample of a tensor, without a batch dimension."""
        return tensor.shape[1:] if self.batches else tensor.shape

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Maps inputs by name to outputs by name; both have samples along the first axis."""
        return run_in_parts(self.run_once, inputs, batches=self.batches)

    def run_once(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Maps inputs by name, in the graph's shapes, to outputs by name, in one run.

        Raises:
            SourceError: the model cannot compute them.
        """
        names = [tensor.name for tensor in self.outputs]
        try:
            return dict(zip(names, self._session.run(names, inputs), strict=True))
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise SourceError(f"{self._source}: ONNX Runtime cannot compute the samples: {_reason(error)}") from error


def run_in_parts(
    run: Callable[[Mapping[str, Array]], dict[str, Array]], inputs: Mapping[str, Array], *, batches: bool
) -> dict[str, Array]:
    """Runs a model on parts of the inputs, so memory stays bounded; returns the joined outputs.

    Args:
        run: maps input tensors by name to output tensors by name.
        inputs: tensors by name, with samples along the first axis.
        batches: whether `run` accepts many samples at once; otherwise each sample is a whole input.
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
    # A free dimension is a name or None, a fixed one a number.
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
    return Tensor(node.name, config_type, shape, np.dtype(code))
