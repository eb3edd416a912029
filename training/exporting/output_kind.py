"""Finds the kind of a classifier's output, from the end of its graph and its outputs for real inputs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, helper

from pixelserve.scores import OUTPUT_KINDS, OutputKind, contradict, look_like_probabilities

from ..errors import UsageError
from ..runtime import Array

# Operations that change values by rounding at most.
_PASSING = {"Cast", "DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Unsqueeze"}
_WEIGHTED = {"Conv", "Gemm", "MatMul"}
_KINDS: dict[str, OutputKind] = {"Softmax": "probabilities", "LogSoftmax": "logits", "Sigmoid": "sigmoids"}
_FIRST_OPSET_OF_LAST_AXIS = 13


@dataclass(frozen=True)
class Found:
    """The kind of an output, with its reason."""

    kind: OutputKind | None
    """The kind, or None if unknown."""
    reason: str
    """How it was found, or why not, as a clause."""


def find(content: bytes, output: str, labels: int, values: Array | None, said: OutputKind | None = None) -> Found:
    """Returns an output's kind: the user's, else derived from the graph's last operation and the samples.

    Args:
        content: the ONNX file.
        output: the output's name.
        labels: number of labels.
        values: its values for real inputs, [N, …], or None without samples.
        said: the user's kind, or None.

    Raises:
        UsageError: the samples contradict the user's kind.
    """
    rows = None if values is None else values.reshape(len(values), -1)
    if said is not None:
        _check_said(output, said, rows)
        return Found(said, "--output-kind")
    model = onnx.load_from_string(content)
    by_graph = _by_graph(model.graph, output, _opset(model))
    looks = rows is not None and bool(look_like_probabilities(rows, labels).all())
    if by_graph.kind == "probabilities" and rows is not None and not looks:
        return Found(None, f"{by_graph.reason}, and the samples' outputs do not add up to 1")
    # A mean of probabilities has weights, like a layer.
    if looks and by_graph.kind in (None, "logits"):
        return Found("probabilities", "the samples' outputs are not negative and add up to 1")
    return by_graph


def _check_said(output: str, said: OutputKind, rows: Array | None) -> None:
    if rows is None or not (wrong := contradict(rows, said)).any():
        return
    row = rows[wrong][0]
    value = row[np.abs(row - 0.5).argmax()]
    raise UsageError(
        f"--output-kind {said}: {output} gives {value:.4g} for a sample, and {said} are 0 to 1; "
        f"give another of {', '.join(OUTPUT_KINDS)}, or omit the option"
    )


def _by_graph(graph: GraphProto, output: str, opset: int) -> Found:
    makers = {name: node for node in graph.node for name in node.output}
    node = _last(makers, output)
    if node is None:
        return Found(None, "the graph does not compute it")
    ends = f"the graph ends in {node.op_type}"
    if node.op_type in ("Softmax", "LogSoftmax") and _axis(node, opset) == 0:
        return Found(None, f"{ends} over the rows of a batch")
    if node.op_type in _KINDS:
        return Found(_KINDS[node.op_type], ends)
    # skl2onnx's classifiers, and its normalisation of one score per class.
    if _attribute(node, "post_transform") == b"SOFTMAX" or _attribute(node, "norm") == b"L1":
        return Found("probabilities", ends)
    if _is_complement(makers, node):
        return Found("probabilities", f"{ends} of 1 - p and p")
    if _is_linear(makers, node, {tensor.name for tensor in graph.initializer}):
        return Found("logits", f"{ends}, without a softmax after it")
    return Found(None, ends)


def _last(makers: dict[str, NodeProto], name: str) -> NodeProto | None:
    """Returns the node that computes a tensor's values."""
    node = makers.get(name)
    while node is not None and node.op_type in _PASSING:
        node = makers.get(node.input[0])
    return node


def _opset(model: onnx.ModelProto) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def _axis(node: NodeProto, opset: int) -> int:
    axis = _attribute(node, "axis")
    return int(axis) if axis is not None else -1 if opset >= _FIRST_OPSET_OF_LAST_AXIS else 1


def _attribute(node: NodeProto, name: str) -> Any:
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), None)


def _is_complement(makers: dict[str, NodeProto], node: NodeProto) -> bool:
    """Returns whether a node concatenates 1 - p and p, with p from a sigmoid."""
    if node.op_type != "Concat" or len(node.input) != 2:
        return False
    other, second = makers.get(node.input[0]), _last(makers, node.input[1])
    if other is None or second is None or second.op_type != "Sigmoid":
        return False
    return other.op_type == "Sub" and _last(makers, other.input[1]) is second


def _is_linear(makers: dict[str, NodeProto], node: NodeProto, constants: set[str]) -> bool:
    """Returns whether a node is a layer without an activation; its bias may be a separate node."""
    if node.op_type == "Add":
        made = [name for name in node.input if name not in constants]
        weighted = _last(makers, made[0]) if len(made) == 1 else None
        return weighted is not None and weighted.op_type in _WEIGHTED
    return node.op_type in _WEIGHTED
