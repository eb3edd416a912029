"""Cuts ZipMap off classifiers of skl2onnx and keeps what it says: the classes' names.

ZipMap turns the probabilities, [N, classes], into a dictionary per sample, which no protocol for tensors can carry.
"""

from collections.abc import Iterable

from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

_DOMAIN = "ai.onnx.ml"
# For a model of ai.onnx.ml alone: any that has Identity.
_OPSET = 13
# Attributes that name classes, in ZipMap and in the classifiers before it.
_LABELS = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
_LABEL_TYPES = (TensorProto.STRING, TensorProto.INT64, TensorProto.INT32)


def remove(model: ModelProto) -> bool:
    """Makes the tensors that ZipMap nodes take a model's outputs, under the same names; no number changes.

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
        # Unlike a new name for the tensor, this holds whether it is also an output or comes from a constant.
        node.CopyFrom(helper.make_node("Identity", [taken], [given], name=node.name))
        if not any(entry.domain == "" for entry in model.opset_import):
            model.opset_import.append(helper.make_opsetid("", _OPSET))
        output.CopyFrom(helper.make_tensor_value_info(given, TensorProto.FLOAT, [None, len(labels) or None]))
    return len(nodes) > 0


def class_labels(model: ModelProto) -> tuple[tuple[str, ...], ...]:
    """Returns what a model of skl2onnx may call its classes, in index order; at most one of them fits its scores.

    Call it before `remove`. ZipMap says it. Without that node, the classifiers do, or the table that labels are
    looked up in; a model put together from several has several.
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
