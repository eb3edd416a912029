"""The interface of converters, and their common last steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import onnx
from onnx import ModelProto, TensorProto, helper

from ...errors import SourceError, UsageError
from ...runtime import OnnxModel, version
from ..folding import fold_into_convolutions
from ..signature import Signature
from ..simplify import simplify


@dataclass(frozen=True)
class Conversion:
    """How a model becomes ONNX."""

    converter: str = "tf2onnx"
    """The converter's name."""
    opset: int | None = None
    """The version of ONNX's operator set; None: the converter's default."""
    jax_python: Path | None = None
    """Python of the environment that holds JAX, for keras-jax; None: that of `make`."""


@dataclass(frozen=True)
class Converted:
    """The result of a converter."""

    model: ModelProto
    """The model, with the signature's tensor names."""
    made_with: Mapping[str, str]
    """Versions of the libraries that made it."""


class Converter(Protocol):
    """Converts a function to ONNX."""

    opsets: range
    """The operator sets that it writes."""
    default_opset: int
    """The one that it writes by default."""

    def convert(self, signature: Signature, conversion: Conversion, *, opset: int, source: str) -> Converted:
        """Converts a function.

        Args:
            signature: the function.
            conversion: how.
            opset: one of `opsets`.
            source: its name in errors.

        Raises:
            SourceError: it uses an operation without a counterpart in ONNX.
        """


def choose_opset(opset: int | None, opsets: range, default: int, *, writer: str) -> int:
    """Returns the operator set to write: the requested one, if everything that handles it supports it.

    Args:
        opset: the requested version; None: the default.
        opsets: the versions that `writer` writes.
        default: its default.
        writer: the library that writes the model, for messages.

    Raises:
        UsageError: `writer`, onnx or ONNX Runtime does not support it.
    """
    if opset is None:
        return default
    if opset not in opsets:
        raise UsageError(f"--opset {opset}: {writer} writes {opsets[0]} to {opsets[-1]}; omit the option for {default}")
    known = onnx.defs.onnx_opset_version()
    if opset > known:
        raise UsageError(f"--opset {opset}: onnx {onnx.__version__} knows up to {known}; install a newer onnx")
    try:
        OnnxModel(_identity(opset), source=f"--opset {opset}")
    except SourceError as error:
        raise UsageError(f"--opset {opset}: ONNX Runtime {version()} does not load it; omit the option") from error
    return opset


def ir_version(opset: int) -> int:
    """Returns the oldest version of the file format that can hold an operator set."""
    return int(helper.find_min_ir_version_for([helper.make_opsetid("", opset)]))


def content_of(model: ModelProto) -> bytes:
    """Returns the simplified ONNX file of a converted model."""
    simplify(model)
    fold_into_convolutions(model)
    content: bytes = model.SerializeToString()
    return content


def opset_of(content: bytes) -> int:
    """Returns the version of ONNX's operator set in a file; 0 if it uses none of its operators."""
    model = onnx.load_model_from_string(content)
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def _identity(opset: int) -> bytes:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "opset", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version(opset))
    content: bytes = model.SerializeToString()
    return content
