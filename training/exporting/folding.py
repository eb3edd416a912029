"""Folds normalisation and rectifier after a max pooling into the convolution before it.

tf2onnx and ONNX Runtime fold only those directly after a convolution. A maximum commutes with a positive factor and
with a shift, channel by channel, and with a rectifier, so those after a pooling can be folded as well:
relu(s · max(w ∗ x) + b) = max(relu((s · w) ∗ x + b)). Only rounding differs. A shift before a SiLU stays, for
OpenVINO's sake.
"""

from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

from .simplify import constants, drop_unused, has_subgraphs


def fold_into_convolutions(model: ModelProto) -> bool:
    """Rewrites a model in place; returns whether anything changed.

    Outputs change by rounding only; names, types and shapes of inputs and outputs stay the same. A model with
    branches or loops is left alone, because their bodies may use any tensor.

    Args:
        model: a valid ONNX model.
    """
    graph = model.graph
    if has_subgraphs(graph):
        return False
    changed = False
    for pooling in [node for node in graph.node if node.op_type == "MaxPool" and len(node.output) == 1]:
        convolution = next((node for node in graph.node if pooling.input[0] in node.output), None)
        if convolution is None or convolution.op_type != "Conv" or _only_user(graph, convolution) is not pooling:
            continue
        normalization = _normalization(graph, convolution, pooling)
        if normalization is not None:
            _fold(graph, convolution, pooling, normalization)
        changed |= normalization is not None
        changed |= _move_rectifier(graph, convolution, pooling)
    if changed:
        drop_unused(graph)
    return changed


@dataclass(frozen=True)
class _Normalization:
    """Nodes that scale and shift channels, with the names of their constants, float32 [C]."""

    scaling: NodeProto
    scale: str
    shifting: NodeProto | None
    shift: str | None


def _normalization(graph: GraphProto, convolution: NodeProto, pooling: NodeProto) -> _Normalization | None:
    """Returns the normalisation after a pooling that can move before it, or None."""
    known = constants(graph)
    if any(name not in known for name in convolution.input[1:]):
        return None
    channels = known[convolution.input[1]].dims[0]
    scaling = _only_user(graph, pooling)
    scale = _by_channel(graph, scaling, "Mul", channels)
    if scaling is None or scale is None or not (numpy_helper.to_array(known[scale]) > 0).all():
        return None
    shifting = _only_user(graph, scaling)
    shift = _by_channel(graph, shifting, "Add", channels)
    if shifting is None or shift is None or _is_before_silu(graph, shifting):
        return _Normalization(scaling, scale, None, None)
    return _Normalization(scaling, scale, shifting, shift)


def _is_before_silu(graph: GraphProto, shifting: NodeProto) -> bool:
    """Returns whether x · sigmoid(x) follows.

    OpenVINO 2026.4 computes it before a pooling that is directly in front of it, though no maximum commutes with it:
    probabilities were off by up to 0.39. With the shift between them, it does not.
    """
    return any(shifting.output[0] in node.input for node in graph.node if node.op_type == "Sigmoid")


def _only_user(graph: GraphProto, node: NodeProto) -> NodeProto | None:
    """Returns the only consumer of a node's output; None if it has several, or is a graph output."""
    (name,) = node.output
    users = [user for user in graph.node if name in user.input]
    return users[0] if len(users) == 1 and name not in {tensor.name for tensor in graph.output} else None


def _by_channel(graph: GraphProto, node: NodeProto | None, operation: str, channels: int) -> str | None:
    """Returns the constant that a node adds to channels, or multiplies them by; None for other nodes.

    Channels are those of images [N, C, H, W].
    """
    if node is None or node.op_type != operation:
        return None
    known = constants(graph)
    names = [name for name in node.input if name in known]
    if len(names) != 1 or known[names[0]].data_type != known[names[0]].FLOAT:
        return None
    shape = tuple(known[names[0]].dims)
    return names[0] if shape[-3:] == (channels, 1, 1) and np.prod(shape) == channels else None


def _fold(graph: GraphProto, convolution: NodeProto, pooling: NodeProto, normalization: _Normalization) -> None:
    known = {name: numpy_helper.to_array(value) for name, value in constants(graph).items()}
    kernel, *biases = convolution.input[1:]
    scale = known[normalization.scale].reshape(-1)
    shift = known[normalization.shift].reshape(-1) if normalization.shift else np.zeros_like(scale)
    bias = known[biases[0]] if biases else np.zeros_like(scale)
    # Convolutions that share a kernel and its normalisation still share the folded kernel.
    name = "_".join([*convolution.input[1:], normalization.scale, normalization.shift or "0"])
    folded = {
        f"{name}_kernel": known[kernel] * scale.reshape(-1, *[1] * (known[kernel].ndim - 1)),
        f"{name}_bias": bias * scale + shift,
    }
    graph.initializer.extend(
        numpy_helper.from_array(value, each) for each, value in folded.items() if each not in known
    )
    del convolution.input[1:]
    convolution.input.extend(folded)
    last = normalization.shifting or normalization.scaling
    _forget_shapes(graph, {convolution.output[0], pooling.output[0], normalization.scaling.output[0]})
    graph.node.remove(normalization.scaling)
    if normalization.shifting is not None:
        graph.node.remove(normalization.shifting)
    pooling.output[0] = last.output[0]


def _move_rectifier(graph: GraphProto, convolution: NodeProto, pooling: NodeProto) -> bool:
    """Moves a Relu after a pooling to before it; returns whether there was one."""
    rectifier = _only_user(graph, pooling)
    if rectifier is None or rectifier.op_type != "Relu":
        return False
    moved = NodeProto()
    moved.CopyFrom(rectifier)
    moved.input[0], moved.output[0] = convolution.output[0], pooling.output[0]
    pooling.input[0], pooling.output[0] = pooling.output[0], rectifier.output[0]
    _forget_shapes(graph, {moved.output[0]})
    graph.node.remove(rectifier)
    graph.node.insert(list(graph.node).index(pooling), moved)
    return True


def _forget_shapes(graph: GraphProto, names: set[str]) -> None:
    # ONNX Runtime warns about outdated shapes.
    for value in [value for value in graph.value_info if value.name in names]:
        graph.value_info.remove(value)
