"""Builds ONNX graphs of models from other libraries than TensorFlow."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from .. import frameworks
from ..learners.backprop import SigmoidLayer
from ..learners.logistic import WHITE, Logistic
from ..runtime import Array
from .converters.base import ir_version
from .simplify import drop_unused

OPSETS = range(13, 23)
"""The operator sets of these models: up to skl2onnx's newest."""
DEFAULT_OPSET = 17
"""Supported by every recent ONNX Runtime."""


def sigmoid_network(layers: Sequence[SigmoidLayer], opset: int = DEFAULT_OPSET) -> bytes:
    """Returns the ONNX file of a binary classifier, in float32.

    Input: `features` float32 [N, inputs]; output: both classes' `probabilities` float32 [N, 2].

    Args:
        layers: its layers.
        opset: the version of ONNX's operator set, one of `OPSETS`.
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
    opsets = [helper.make_opsetid("", opset)]
    return _content(helper.make_model(graph, opset_imports=opsets, ir_version=ir_version(opset)))


def logistic(model: Logistic, opset: int = DEFAULT_OPSET) -> bytes:
    """Converts a logistic regression with skl2onnx.

    Input: `image` uint8 [N, H, W, C]; output: `probabilities` float32 [N, classes]. skl2onnx's label output is dropped:
    it is the index of the highest probability, and a model with two outputs would not accept images.

    Args:
        model: the regression.
        opset: the version of ONNX's operator set, one of `OPSETS`.

    Raises:
        MissingLibraryError: skl2onnx is not installed.
    """
    with frameworks.named_where_missing():
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import FloatTensorType
    pixels = model.estimator.n_features_in_
    converted = convert_sklearn(
        model.estimator,
        initial_types=[("rows", FloatTensorType([None, pixels]))],
        options={id(model.estimator): {"zipmap": False}},
        target_opset={"": opset, "ai.onnx.ml": 3},
    )
    _take_pixels(converted, model.image_shape, pixels)
    classes = len(model.estimator.classes_)
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", classes])]
    _replace(converted.graph.output, outputs)
    drop_unused(converted.graph)
    return _content(converted)


def _take_pixels(model: ModelProto, shape: tuple[int, ...], pixels: int) -> None:
    """Prepends the training preprocessing, which makes `rows` from images."""
    graph = model.graph
    graph.initializer.append(_constant("white", np.array(WHITE, np.float32)))
    graph.initializer.append(_constant("row", np.array([-1, pixels], np.int64)))
    steps = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels", "white"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "row"], ["rows"]),
    ]
    _replace(graph.node, [*steps, *graph.node])
    _replace(graph.input, [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *shape])])


def _replace(entries: Any, others: Sequence[Any]) -> None:
    kept = list(others)
    del entries[:]
    entries.extend(kept)


def _constant(name: str, value: Array) -> TensorProto:
    return numpy_helper.from_array(value, name)


def _content(model: ModelProto) -> bytes:
    content: bytes = model.SerializeToString()
    return content
