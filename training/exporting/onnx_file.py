"""Reads .onnx files of other tools, and makes them servable without changing their outputs."""

import math
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto

from pixelserve.too_new import most_ir_version

from ..errors import SourceError
from ..progress import say
from ..runtime import OnnxModel
from . import external, formats, free_batch, zipmap

# Of ONNX 1.16 (2024), and supported by every ONNX Runtime since.
_WIDELY_TAKEN_IR_VERSION = 10
_INTEGER_NODES = ("QuantizeLinear", "QLinear", "MatMulInteger", "ConvInteger", "DynamicQuantize", "MatMulNBits")
_PRECISIONS = (
    (TensorProto.FLOAT16, "float16"),
    (TensorProto.BFLOAT16, "bfloat16"),
    (TensorProto.DOUBLE, "float64"),
)


@dataclass(frozen=True)
class OnnxFile:
    """A model from an .onnx file."""

    content: bytes
    """The ONNX file's content."""
    weights: tuple[Path, ...]
    """Its external data, if one file cannot hold all weights."""
    producer: str
    """The library that wrote it, as stated in the file; empty if unknown."""
    producer_version: str
    """That library's version; empty if unknown."""
    parameters: int
    """Weights in it."""
    precision: str
    """The computation precision: float32, float16, bfloat16, float64 or int8."""
    labels: tuple[tuple[str, ...], ...]
    """Possible class names, each in index order; at most one of these fits its scores."""
    is_regression: bool
    """Whether its nodes show that it predicts values."""


def read(path: Path) -> OnnxFile:
    """Reads an .onnx file and its external data.

    Raises:
        SourceError: it or its external data is missing, damaged, or of another format.
    """
    content, model = _parsed(path)
    _check_versions(model, path)
    found = external.files(model, path)
    fits = model.ByteSize() + sum(file.stat().st_size for file in found.values()) <= external.MOST_BYTES
    if not fits:
        # ONNX Runtime finds external data only relative to the graph's path, so the file is served unchanged.
        external.check_servable(found, path)
        _check(str(path), path)
        return _described(model, content, weights=tuple(path.parent / location for location in found))
    external.merge(model, found, path)
    _check(model, path)
    labels = zipmap.class_labels(model)
    if zipmap.remove(model) or found:
        content = model.SerializeToString()
    if _lower_ir_version(model, content, path):
        content = model.SerializeToString()
    if (freed := _with_free_batch(model, content, path)) is not None:
        model, content = freed, freed.SerializeToString()
    # An unchanged file keeps its known hash.
    return _described(model, content, labels=labels)


def _lower_ir_version(model: ModelProto, content: bytes, path: Path) -> bool:
    """Lowers the IR version to one that ONNX Runtime supports; newer versions add tensor types that few models use."""
    if model.ir_version <= _WIDELY_TAKEN_IR_VERSION:
        return False
    try:
        OnnxModel(content, source=str(path))
    except SourceError as error:
        most = most_ir_version(str(error.__cause__))
        if most is not None:
            model.ir_version = most
            return True
    return False


def _with_free_batch(model: ModelProto, content: bytes, path: Path) -> ModelProto | None:
    if not any(value.type.tensor_type.shape.dim[:1] and _first(value) == 1 for value in model.graph.input):
        return None
    original = OnnxModel(content, source=str(path))
    if not free_batch.is_fixed(original):
        return None
    freed = free_batch.freed(model, original, source=str(path))
    if freed is not None:
        say(
            "note: it was exported with a batch size of 1; its first dimension is now free, because made-up rows give "
            "the same results together as one by one"
        )
    return freed


def _first(value: ValueInfoProto) -> int:
    return int(value.type.tensor_type.shape.dim[0].dim_value)


def _described(
    model: ModelProto,
    content: bytes,
    *,
    labels: tuple[tuple[str, ...], ...] = (),
    weights: tuple[Path, ...] = (),
) -> OnnxFile:
    return OnnxFile(
        content=content,
        weights=weights,
        producer=model.producer_name,
        producer_version=model.producer_version,
        parameters=sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
        precision=_precision(model),
        labels=labels,
        is_regression=not labels and _predicts_values(model),
    )


def _parsed(path: Path) -> tuple[bytes, ModelProto]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    if what := formats.named_by_content(content):
        raise SourceError(f"{path}: not an ONNX model but {what}")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's error, which only readers of config.pbtxt import
        raise SourceError(
            f"{path}: not a valid ONNX model, or cut short after {len(content):,} bytes; copy or export it again"
        ) from error
    return content, model


def _check_versions(model: ModelProto, path: Path) -> None:
    known = onnx.defs.onnx_opset_version()
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset > known or model.ir_version > onnx.IR_VERSION:
        raise SourceError(
            f"{path}: has ONNX opset {opset} and IR version {model.ir_version}, newer than the supported ones ({known} "
            f"and {onnx.IR_VERSION}, by onnx {onnx.__version__}); export it with a lower opset (for PyTorch: "
            f"opset_version=18), or install newer onnx and onnxruntime"
        )


def _check(model: ModelProto | str, path: Path) -> None:
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # the checker's errors have no common base class
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise SourceError(f"{path}: not a valid ONNX model: {reason}") from error


def _precision(model: ModelProto) -> str:
    graph = model.graph
    if any(node.op_type.startswith(_INTEGER_NODES) for node in graph.node):
        return "int8"
    types = {tensor.data_type for tensor in graph.initializer}
    types |= {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    return next((name for kind, name in _PRECISIONS if kind in types), "float32")


def _predicts_values(model: ModelProto) -> bool:
    graph = model.graph
    regressors = (node for node in graph.node if node.domain == "ai.onnx.ml" and node.op_type.endswith("Regressor"))
    types = {output.type.tensor_type.elem_type for output in graph.output}
    return types <= {TensorProto.FLOAT, TensorProto.DOUBLE} and next(regressors, None) is not None
