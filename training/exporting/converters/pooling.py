"""Rewrites jax2onnx's pooling of images as ONNX's.

jax2onnx pools [N, H, W, C] over all four axes, with a window of [1, h, w, 1] in six dimensions. That is valid ONNX, but
ONNX Runtime pools over three axes at most.
"""

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from ..simplify import drop_unused

_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def pool_images(model: ModelProto) -> int:
    """Rewrites such MaxPool nodes as a MaxPool over height and width between two transposes.

    Values do not change. ONNX Runtime then merges the transposes with those of the convolutions.

    Args:
        model: the converted model; changed in place.

    Returns:
        The number of rewritten nodes.
    """
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    rewritten = 0
    for pool in [node for node in graph.node if node.op_type == "MaxPool"]:
        source, squeeze = _image(graph, pool, makers), _only_user(graph, pool)
        settings = _settings(pool)
        if source is None or squeeze is None or settings is None:
            continue
        first, last = f"{pool.output[0]}_first", f"{pool.output[0]}_images"
        nodes = [
            helper.make_node("Transpose", [source], [first], perm=_TO_CHANNELS_FIRST),
            helper.make_node("MaxPool", [first], [last], **settings),
            helper.make_node("Transpose", [last], [squeeze.output[0]], perm=_TO_CHANNELS_LAST),
        ]
        position = list(graph.node).index(squeeze)
        graph.node.remove(squeeze)
        for node in reversed(nodes):
            graph.node.insert(position, node)
        rewritten += 1
    if rewritten:
        drop_unused(graph)
    return rewritten


def _image(graph: GraphProto, pool: NodeProto, makers: dict[str, NodeProto]) -> str | None:
    """Returns the tensor [N, H, W, C] behind the two Unsqueeze nodes before a pool, or None."""
    name = str(pool.input[0])
    for _ in range(2):
        node = makers.get(name)
        if node is None or node.op_type != "Unsqueeze" or _axes(graph, node) not in ([0], [1]):
            return None
        name = str(node.input[0])
    return name


def _only_user(graph: GraphProto, pool: NodeProto) -> NodeProto | None:
    users = [node for node in graph.node if pool.output[0] in node.input]
    return users[0] if len(users) == 1 and users[0].op_type == "Squeeze" else None


def _axes(graph: GraphProto, node: NodeProto) -> list[int]:
    found = next((tensor for tensor in graph.initializer if tensor.name == node.input[1]), None)
    return [] if found is None else [int(axis) for axis in np.ravel(numpy_helper.to_array(found))]


def _settings(pool: NodeProto) -> dict[str, list[int]] | None:
    """Returns a pool's settings for height and width; None if its window covers samples or channels."""
    given = {each.name: helper.get_attribute_value(each) for each in pool.attribute}
    window, strides = list(given.get("kernel_shape", [])), list(given.get("strides", []))
    pads = list(given.get("pads", [0] * 8))
    if len(window) != 4 or (window[0], window[3], strides[0], strides[3]) != (1, 1, 1, 1):
        return None
    if any(pads[axis] for axis in (0, 3, 4, 7)) or "auto_pad" in given or set(given.get("dilations", [1])) != {1}:
        return None
    return {"kernel_shape": window[1:3], "strides": strides[1:3], "pads": [*pads[1:3], *pads[5:7]]}
