"""Frees an exported model's batch dimension of 1 if its rows prove to be independent.

PyTorch's exporter fixes every dimension by default, although most models support any number of rows.
This is verified: rows are run one by one through the original, and together through the freed model.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import ModelProto, ValueInfoProto, numpy_helper

from pixelserve.rows import ROWS, Infer, Input, Tensors, count_rows, made_up_rows, prove_rows

from ..errors import SourceError
from ..runtime import OnnxModel

_BATCH = "batch"


def is_fixed(model: OnnxModel) -> bool:
    """Returns whether every tensor's first dimension is 1 or free, and at least one is 1."""
    first = {tensor.shape[:1] for tensor in (*model.inputs, *model.outputs)}
    return (1,) in first and first <= {(1,), (-1,)}


def freed(model: ModelProto, original: OnnxModel, *, source: str) -> ModelProto | None:
    """Returns the model with free first dimensions.

    Args:
        model: the original; not changed.
        original: the same, loaded; `is_fixed` must hold.
        source: its name in errors.

    Returns:
        The freed model; None if its rows differ from those of the original, or made-up inputs cannot show it.
    """
    inputs = next(made_up_rows({tensor.name: Input(tensor.dtype, tensor.shape) for tensor in original.inputs}))
    if any(-1 in tensor.shape[1:] for tensor in original.inputs) or not _moves(original, inputs):
        return None
    for candidate in _candidates(model):
        try:
            loaded = OnnxModel(candidate.SerializeToString(), source=source)
            if loaded.batches and prove_rows(_beside(original, loaded), inputs).allows_merging:
                return candidate
        except SourceError:
            # It does not support that many rows.
            continue
    return None


def _moves(original: OnnxModel, inputs: Tensors) -> bool:
    """Returns whether outputs vary with made-up rows; if not, these prove nothing."""
    try:
        alone = [original.run_once({name: array[[row]] for name, array in inputs.items()}) for row in range(ROWS)]
    except SourceError:
        return False
    return any(not np.array_equal(alone[0][name], each[name]) for each in alone[1:] for name in each)


def _beside(original: OnnxModel, loaded: OnnxModel) -> Infer:
    """Returns a function that computes single rows by the original model, and several by the freed one."""
    return lambda inputs: (original if count_rows(inputs) == 1 else loaded).run_once(inputs)


def _candidates(model: ModelProto) -> Iterator[ModelProto]:
    """Yields the model with free first dimensions, and the same with free reshapes."""
    candidate = ModelProto()
    candidate.CopyFrom(model)
    constants = {tensor.name for tensor in candidate.graph.initializer}
    for value in (*candidate.graph.input, *candidate.graph.output):
        if value.name not in constants:
            _free(value)
    # Shapes inferred from the fixed dimension would contradict the free one.
    candidate.graph.ClearField("value_info")
    yield candidate
    if _open_reshapes(candidate):
        yield candidate


def _free(value: ValueInfoProto) -> None:
    dimensions = value.type.tensor_type.shape.dim
    if dimensions:
        dimensions[0].Clear()
        dimensions[0].dim_param = _BATCH


def _open_reshapes(model: ModelProto) -> bool:
    """Makes reshapes to [1, ...] keep their input's first dimension; returns whether there are any."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    reshapes = [node for node in graph.node if node.op_type == "Reshape" and not _allows_zero(node)]
    rows = {node.input[1] for node in reshapes if node.input[0] not in constants}
    others = {name for node in graph.node for name in node.input if name not in rows or node not in reshapes}
    shapes = [tensor for tensor in graph.initializer if tensor.name in rows - others]
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] in rows - others:
            shapes += [attribute.t for attribute in node.attribute if attribute.name == "value"]
    fixed = [shape for shape in shapes if numpy_helper.to_array(shape).ravel()[:1].tolist() == [1]]
    for shape in fixed:
        # 0 copies the input's dimension.
        opened = np.array([0, *numpy_helper.to_array(shape)[1:]], np.int64)
        shape.CopyFrom(numpy_helper.from_array(opened, shape.name))
    return bool(fixed)


def _allows_zero(node: onnx.NodeProto) -> bool:
    return any(each.name == "allowzero" and each.i for each in node.attribute)
