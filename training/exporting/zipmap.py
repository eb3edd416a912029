"""Removes ZipMap from skl2onnx's classifiers and keeps its class names.

ZipMap turns the probabilities, [N, classes], into a dictionary per sample, which no protocol for tensors can carry.
"""

from collections.abc import Iterable

from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

_DOMAIN = "ai.onnx.ml"
# For models that use only ai.onnx.ml: any version with Identity.
_OPSET = 13
# Attributes that name classes, in ZipMap and in the classifiers before it.
_LABELS = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
_LABEL_TYPES = (TensorProto.STRING, TensorProto.INT64, TensorProto.INT32)


def remove(model: ModelProto) -> bool:
    """Replaces outputs of ZipMap nodes by their input tensors, under the same names; values do not change.

    Returns:
        Whether the model, which is changed in place, has such nodes.
    """
    graph = model.graph
    nodes = [node for node in graph.node if _is(node, "ZipMap")]
    for node in nodes:
        taken, given = node.input[0], node.output[0]
        output = next((output for output in graph.output if output.name == given), None)
        if output is None:
            continue
        labels = _labels(node)
        # Unlike renaming the tensor, this also works for outputs and constants.
        node.CopyFrom(helper.make_node("Identity", [taken], [given], name=node.name))
        if not any(entry.domain == "" for entry in model.opset_import):
            model.opset_import.append(helper.make_opsetid("", _OPSET))
        output.CopyFrom(helper.make_tensor_value_info(given, TensorProto.FLOAT, [None, len(labels) or None]))
    return len(nodes) > 0


def class_labels(model: ModelProto) -> tuple[tuple[str, ...], ...]:
    """Returns possible class names of an skl2onnx model, each in index order; at most one of these fits its scores.

    Call it before `remove`. Names come from ZipMap; without that node, from the classifiers or the label lookup table.
    A model composed of several classifiers has several.
    """
    nodes = [node for node in model.graph.node if node.domain == _DOMAIN]
    zipped = {_labels(node) for node in nodes if _is(node, "ZipMap")}
    if zipped:
        return tuple(zipped)
    tables = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type in _LABEL_TYPES}
    looked_up = {node.input[0] for node in nodes if _is(node, "ArrayFeatureExtractor")} & tables.keys()
    found = {_labels(node) for node in nodes if node.op_type.endswith("Classifier")}
    found |= {_as_text(numpy_helper.to_array(tables[name]).ravel().tolist()) for name in looked_up}
    return tuple(found)


def _is(node: NodeProto, kind: str) -> bool:
    return bool(node.domain == _DOMAIN and node.op_type == kind)


def _labels(node: NodeProto) -> tuple[str, ...]:
    values = (helper.get_attribute_value(each) for each in node.attribute if each.name in _LABELS)
    return next((_as_text(each) for each in values if each), ())


def _as_text(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values)
