"""Makes a converted ONNX graph faster with bit-identical outputs.

tf2onnx transposes images from NHWC to NCHW as late as possible, and computes constant shapes at run time.
"""

import math
from collections import Counter

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

_BINARY = ("Add", "Div", "Mul", "Sub")
SUBGRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
"""Attribute types of a branch's or loop's body."""


def simplify(model: ModelProto) -> bool:
    """Rewrites a model in place; returns whether anything changed.

    The arithmetic is unchanged, so outputs are bit-identical for every batch size. Names, types and shapes of inputs
    and outputs stay the same. A model with branches or loops is left alone, because their bodies may use any tensor.

    Args:
        model: a valid ONNX model of operator set 5 or later.
    """
    graph = model.graph
    if has_subgraphs(graph):
        return False
    # First, because it removes Shape nodes, which would block moving a Reshape.
    changed = _fix_shapes(model)
    while any(_move_up(graph, node) for node in graph.node if node.op_type == "Reshape"):
        changed = True
    return changed


def _fix_shapes(model: ModelProto) -> bool:
    """Replaces computed shapes of Reshapes with one free dimension by constants."""
    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {value.name: _sizes(value) for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    known = constants(graph)
    changed = False
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] in known:
            continue
        before, after = shapes.get(node.input[0], []), shapes.get(node.output[0], [])
        # -1 is the remaining size, which equals the free dimension only if the others agree.
        if before.count(-1) == after.count(-1) == 1 and math.prod(before) == math.prod(after) < 0:
            name = _free_name(graph, f"{node.output[0]}_shape")
            graph.initializer.append(numpy_helper.from_array(np.array(after, np.int64), name))
            node.input[1] = name
            changed = True
    if changed:
        drop_unused(graph)
    return changed


def _move_up(graph: GraphProto, reshape: NodeProto) -> bool:
    """Moves a Reshape before convolutions up over element-wise nodes to the graph input.

    ONNX Runtime 1.31 multiplies [N, 28, 28, 1] by a scalar element by element, because the last dimension is 1, but
    [N, 1, 28, 28] by whole vectors.
    """
    # ONNX Runtime folds a scalar factor into a MatMul directly after it, which changes rounding; not into a Conv.
    if {node.op_type for node in graph.node if reshape.output[0] in node.input} != {"Conv"}:
        return False
    chain = _chain_above(graph, reshape)
    if not chain:
        return False
    inputs = {tensor.name for tensor in graph.input}
    first = next(index for index, name in enumerate(chain[0].input) if name in inputs)
    stale = {name for node in chain for name in node.output}
    moved = NodeProto()
    moved.CopyFrom(reshape)
    moved.input[0] = chain[0].input[first]
    moved.output[0] = chain[0].input[first] = _free_name(graph, f"{moved.input[0]}_reshaped")
    # The chain's end takes over the Reshape's name, which the next nodes use and which may be an output.
    chain[-1].output[0] = reshape.output[0]
    position = list(graph.node).index(chain[0])
    graph.node.remove(reshape)
    graph.node.insert(position, moved)
    _keep_value_info(graph, {value.name for value in graph.value_info} - stale)
    return True


def _chain_above(graph: GraphProto, reshape: NodeProto) -> list[NodeProto]:
    """Returns the element-wise nodes from a graph input to a Reshape of constant shape; empty if there are others."""
    known = constants(graph)
    shape = known.get(reshape.input[1])
    if shape is None:
        return []
    # A scalar with more dimensions than a tensor would add dimensions to it.
    rank = min([math.prod(shape.dims), *(len(_sizes(tensor)) for tensor in graph.input)])
    scalars = {name for name, value in known.items() if math.prod(value.dims) == 1 and len(value.dims) <= rank}
    producers = {name: node for node in graph.node for name in node.output}
    uses = Counter(name for node in graph.node for name in node.input) + Counter(t.name for t in graph.output)
    chain: list[NodeProto] = []
    name = reshape.input[0]
    while name in producers:
        node = producers[name]
        varying = [other for other in node.input if other not in scalars]
        if uses[name] != 1 or len(varying) != 1 or node.op_type not in ("Cast", *_BINARY):
            return []
        chain.insert(0, node)
        name = varying[0]
    return chain if name in {tensor.name for tensor in graph.input} else []


def has_subgraphs(graph: GraphProto) -> bool:
    """Returns whether a graph has branches or loops."""
    return any(attribute.type in SUBGRAPHS for node in graph.node for attribute in node.attribute)


def drop_unused(graph: GraphProto) -> None:
    """Removes a graph's unused nodes and constants; its nodes must be in order of computation."""
    used = {tensor.name for tensor in (*graph.input, *graph.output)}
    for node in reversed(list(graph.node)):
        if used.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            used.update(node.input)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    _keep_value_info(graph, used)


def _keep_value_info(graph: GraphProto, names: set[str]) -> None:
    # ONNX Runtime warns about outdated shapes.
    for value in [value for value in graph.value_info if value.name not in names]:
        graph.value_info.remove(value)


def constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Returns a graph's constants by name."""
    # An initializer that is also an input is only a default.
    inputs = {tensor.name for tensor in graph.input}
    return {tensor.name: tensor for tensor in graph.initializer if tensor.name not in inputs}


def _sizes(value: ValueInfoProto) -> list[int]:
    return [dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]


def _free_name(graph: GraphProto, name: str) -> str:
    taken = {tensor.name for tensor in (*graph.input, *graph.initializer)}
    taken.update(output for node in graph.node for output in node.output)
    while name in taken:
        name += "_"
    return name
