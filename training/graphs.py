"""Writes models that did not come from TensorFlow as ONNX graphs."""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from .learners.backprop import SigmoidLayer
from .runtime import Array

# The newest that skl2onnx and tf2onnx are both tested with.
_OPSET = 17
_IR_VERSION = 8


def sigmoid_network(layers: Sequence[SigmoidLayer]) -> bytes:
    """Returns the ONNX file of a network that tells two classes apart, in float32.

    It takes `features` float32 [N, inputs] and gives `probabilities` float32 [N, 2], both classes'.
    """
    nodes, tensor = [], "features"
    constants: dict[str, Array] = {"one": np.ones(())}
    for number, layer in enumerate(layers, start=1):
        names = f"weights_{number}", f"bias_{number}"
        constants |= dict(zip(names, (layer.weights, layer.bias), strict=True))
        nodes.append(helper.make_node("Gemm", [tensor, *names], [f"sum_{number}"]))
        tensor = f"units_{number}"
        nodes.append(helper.make_node("Sigmoid", [f"sum_{number}"], [tensor]))
    nodes.append(helper.make_node("Sub", ["one", tensor], ["other"]))
    nodes.append(helper.make_node("Concat", ["other", tensor], ["probabilities"], axis=1))
    graph = helper.make_graph(
        nodes,
        "sigmoid_network",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", len(layers[0].weights)])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2])],
        [_constant(name, np.asarray(value, np.float32)) for name, value in constants.items()],
    )
    return _content(helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION))


def _constant(name: str, value: Array) -> TensorProto:
    return numpy_helper.from_array(value, name)


def _content(model: ModelProto) -> bytes:
    content: bytes = model.SerializeToString()
    return content
