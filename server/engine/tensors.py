"""Element types, with their names in the protocol, ONNX and NumPy, and tensor descriptions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

FREE = -1
"""A dimension chosen by the request."""
MAX_DIMENSIONS = 32
"""Maximum number of dimensions of a served tensor, the batch included. NumPy has no more before its release 2."""


@dataclass(frozen=True)
class DataType:
    """An element type with its three names."""

    name: str
    """Name in the Open Inference Protocol, such as UINT8; config.pbtxt says TYPE_UINT8."""
    onnx: str
    """Name in ONNX Runtime's type strings, such as uint8 in tensor(uint8)."""
    dtype: np.dtype[Any]
    """NumPy's type: little-endian, as on the wire. NumPy lacks bfloat16, whose 16 bits are uint16 here."""

    @property
    def config_name(self) -> str:
        """Name in config.pbtxt."""
        return "TYPE_STRING" if self.name == "BYTES" else f"TYPE_{self.name}"

    @property
    def is_bytes(self) -> bool:
        """Whether elements are byte strings, which have no fixed size."""
        return self.name == "BYTES"

    @property
    def has_numbers(self) -> bool:
        """Whether NumPy reads an element as its numeric value."""
        return self.name not in ("BYTES", "BF16")


_ALL = (
    DataType("BOOL", "bool", np.dtype("?")),
    DataType("UINT8", "uint8", np.dtype("u1")),
    DataType("UINT16", "uint16", np.dtype("<u2")),
    DataType("UINT32", "uint32", np.dtype("<u4")),
    DataType("UINT64", "uint64", np.dtype("<u8")),
    DataType("INT8", "int8", np.dtype("i1")),
    DataType("INT16", "int16", np.dtype("<i2")),
    DataType("INT32", "int32", np.dtype("<i4")),
    DataType("INT64", "int64", np.dtype("<i8")),
    DataType("FP16", "float16", np.dtype("<f2")),
    DataType("BF16", "bfloat16", np.dtype("<u2")),
    DataType("FP32", "float", np.dtype("<f4")),
    DataType("FP64", "double", np.dtype("<f8")),
    DataType("BYTES", "string", np.dtype("O")),
)
BY_NAME = {datatype.name: datatype for datatype in _ALL}
BY_ONNX = {f"tensor({datatype.onnx})": datatype for datatype in _ALL}
BY_CONFIG_NAME = {datatype.config_name: datatype for datatype in _ALL}


@dataclass(frozen=True)
class TensorSpec:
    """A model's input or output."""

    name: str
    """The tensor's name in the ONNX graph."""
    datatype: DataType
    """Its element type."""
    shape: tuple[int, ...]
    """The shape that clients see, including the batch dimension; FREE dimensions are chosen by the request."""
    labels: tuple[str, ...] = ()
    """Class labels in index order, or empty."""
    inside: tuple[int, ...] | None = None
    """Its shape in the ONNX graph, or None if clients see the same shape."""


def format_shape(shape: tuple[int, ...]) -> str:
    """Formats a shape for error messages: [-1, 28, 28, 1]."""
    return f"[{', '.join(map(str, shape))}]"
