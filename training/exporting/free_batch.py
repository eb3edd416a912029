"""Frees a batch dimension that a model was exported with at 1, where its rows turn out not to depend on each other.

PyTorch's exporter fixes every dimension unless it is told otherwise, and most models would take any number of rows.
Whether one does is not guessed: rows are run alone through the original, and together through the freed model.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import ModelProto, ValueInfoProto, numpy_helper

from pixelserve.card import largest_difference

from ..errors import SourceError
from ..runtime import Array, OnnxModel, Tensor

Tensors = Mapping[str, Array]

_BATCH = "batch"
_ROWS = 3
_SEED = 0
# Of the largest output: sums of a batch are taken in another order than those of a row.
_TOLERANCE = 1e-4
_HALF_TOLERANCE = 1e-2


def is_fixed(model: OnnxModel) -> bool:
    """Returns whether every tensor's first dimension is 1 or free, and at least one is 1."""
    first = {tensor.shape[:1] for tensor in (*model.inputs, *model.outputs)}
    return (1,) in first and first <= {(1,), (-1,)}


def freed(model: ModelProto, original: OnnxModel, *, source: str) -> ModelProto | None:
    """Returns a model whose first dimensions are free.

    Args:
        model: the model as it came; not changed.
        original: that model, loaded; `is_fixed`.
        source: what an error calls it.

    Returns:
        The freed model; None: it does not give each of several rows what the original gives that row alone, or
        that cannot be found out with made-up inputs.
    """
    rows = _made_up(original.inputs)
    if rows is None:
        return None
    try:
        alone = [original.run_once(row) for row in rows]
    except SourceError:
        return None
    if all(_agree(alone[0], each, original.outputs) for each in alone[1:]):
        # Whatever it is that makes up this model's answers, made-up inputs do not move it.
        return None
    for candidate in _candidates(model):
        try:
            loaded = OnnxModel(candidate.SerializeToString(), source=source)
            if loaded.batches and _gives_the_same(loaded, rows, alone):
                return candidate
        except SourceError:
            # It cannot take so many rows.
            continue
    return None


def _candidates(model: ModelProto) -> Iterator[ModelProto]:
    """Yields the model with free first dimensions, and the same with those dimensions left open in reshapes."""
    candidate = ModelProto()
    candidate.CopyFrom(model)
    constants = {tensor.name for tensor in candidate.graph.initializer}
    for value in (*candidate.graph.input, *candidate.graph.output):
        if value.name not in constants:
            _free(value)
    # What was inferred from the fixed dimension would contradict the free one.
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
    """Makes reshapes to [1, ...] keep the first dimension of their input; returns whether there are any."""
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
        # 0 stands for the input's dimension.
        opened = np.array([0, *numpy_helper.to_array(shape)[1:]], np.int64)
        shape.CopyFrom(numpy_helper.from_array(opened, shape.name))
    return bool(fixed)


def _allows_zero(node: onnx.NodeProto) -> bool:
    return any(each.name == "allowzero" and each.i for each in node.attribute)


def _made_up(inputs: Sequence[Tensor]) -> list[dict[str, Array]] | None:
    """Returns single rows of made-up values; None: a dimension is free, or values of that type cannot be made up."""
    generator = np.random.default_rng(_SEED)
    rows: list[dict[str, Array]] = []
    for _ in range(_ROWS):
        row = {}
        for tensor in inputs:
            shape = (1, *tensor.shape[1:])
            if -1 in shape or tensor.dtype.kind not in "fiub":
                return None
            if tensor.dtype.kind == "f":
                row[tensor.name] = generator.normal(size=shape).astype(tensor.dtype)
            else:
                # Anything that counts something has 0 and 1, and pixels have all of a byte.
                highest = 255 if tensor.dtype == np.uint8 else 1
                row[tensor.name] = generator.integers(0, highest, shape, endpoint=True).astype(tensor.dtype)
        rows.append(row)
    return rows


def _gives_the_same(model: OnnxModel, rows: Sequence[Tensors], alone: Sequence[Tensors]) -> bool:
    return all(
        _agree(model.run_once(_joined(rows, order)), _joined(alone, order), model.outputs)
        for order in (range(len(rows)), (2, 0, 1), (1,))
    )


def _joined(rows: Sequence[Tensors], order: Iterable[int]) -> dict[str, Array]:
    return {name: np.concatenate([rows[index][name] for index in order]) for name in rows[0]}


def _agree(found: Tensors, expected: Tensors, outputs: Sequence[Tensor]) -> bool:
    for tensor in outputs:
        one, other = found[tensor.name], expected[tensor.name]
        if one.shape != other.shape:
            return False
        tolerance = 0.0
        if tensor.dtype.kind == "f":
            largest = float(np.abs(other.astype(np.float64)).max(initial=0.0))
            share = _HALF_TOLERANCE if tensor.dtype == np.float16 else _TOLERANCE
            tolerance = share * (largest if np.isfinite(largest) else 0.0)
        if not largest_difference(one, other) <= tolerance:
            return False
    return True
