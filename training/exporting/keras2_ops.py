"""Layers for TensorFlow functions that Keras 2 models call between layers.

`keras.applications.mobilenet_v2.preprocess_input(inputs)` of the transfer learning tutorials is such a call: a division
and a subtraction. Keras 3 does not read these entries.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from .. import frameworks

OPERATIONS = ("TFOpLambda", "SlicingOpLambda")
HARD_SIGMOID = "hard_sigmoid_of_keras_2"
_LAYER = "TensorFlowFunction"
# An allow list, because a model file can name any function, and some of TensorFlow's write files.
_MODULES = ("math", "nn", "linalg")
# Operators on tensors, such as + and [].
_OPERATORS = (
    *("abs", "add", "and", "div", "eq", "floordiv", "ge", "getitem", "gt", "invert", "le", "lt", "matmul", "mod"),
    *("mul", "ne", "neg", "or", "pow", "radd", "rand", "rdiv", "rfloordiv", "rmatmul", "rmod", "rmul", "ror", "rpow"),
    *("rsub", "rtruediv", "rxor", "sub", "truediv", "xor"),
)
_FUNCTIONS = (
    *("cast", "clip_by_value", "concat", "convert_to_tensor", "expand_dims", "identity", "image.resize"),
    *("image.per_image_standardization", "pad", "reshape", "reverse", "squeeze", "stack", "stop_gradient", "tile"),
    "transpose",
)


def as_layer(entry: dict[str, Any]) -> dict[str, Any]:
    """Returns the entry of a layer that calls the same function on the same tensors; see `custom_objects`."""
    inputs: list[Any] = []
    calls = [_call(node, inputs) for node in entry["inbound_nodes"]]
    config = {"name": entry["config"]["name"], "function": entry["config"]["function"], "call": calls[0]}
    return {"class_name": _LAYER, "config": config, "name": entry["name"], "inbound_nodes": [inputs]}


def _call(node: Sequence[Any], inputs: list[Any]) -> dict[str, Any]:
    """Returns a call's arguments with tensors replaced by numbers; appends the tensors' origins to `inputs`."""
    if node and isinstance(node[0], list):  # the first argument is a list of tensors
        first = [_argument(item[:3], inputs) for item in node]
        rest = node[0][3]
    else:
        first, rest = _argument(node[:3], inputs), node[3]
    # `name` names the result.
    rest = {name: _argument(value, inputs) for name, value in rest.items() if name != "name"}
    return {"first": first, "rest": rest}


def _argument(value: Any, inputs: list[Any]) -> Any:
    if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int):
        if value[0] == "_CONSTANT_VALUE":
            return value[2]
        inputs.append([*value, {}])
        return {"tensor": len(inputs) - 1}
    return [_argument(item, inputs) for item in value] if isinstance(value, list) else value


@cache
def custom_objects() -> Mapping[str, Any]:
    """Returns the classes of the layers of `as_layer`, by name."""
    keras = frameworks.load().keras

    class TensorFlowFunction(keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Calls a TensorFlow function."""

        def __init__(self, function: str, call: Mapping[str, Any], **options: Any) -> None:
            super().__init__(**options)
            self._function = _find(function)
            self._call = call

        def call(self, inputs: Any) -> Any:
            """Returns the function's result for a tensor or a list of tensors."""
            tensors = inputs if isinstance(inputs, list) else [inputs]
            rest = {name: _fill(value, tensors) for name, value in self._call["rest"].items()}
            return self._function(_fill(self._call["first"], tensors), **rest)

    def hard_sigmoid(x: Any) -> Any:
        # Keras 3's has a slope of 1/6.
        return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)

    return {_LAYER: TensorFlowFunction, HARD_SIGMOID: hard_sigmoid}


def _find(function: str) -> Any:
    module, _, name = function.rpartition(".")
    tf = frameworks.load().tf
    if module == "__operators__" and name in _OPERATORS:
        return getattr(tf.Tensor, f"__{name}__")
    if function not in _FUNCTIONS and (module not in _MODULES or name.startswith("_")):
        raise ValueError(f"Unknown function tf.{function}")
    found = tf
    for part in function.split("."):
        found = getattr(found, part)
    return found


def _fill(value: Any, tensors: Sequence[Any]) -> Any:
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        if value.get("class_name") == "__ellipsis__":
            return ...
        if value.keys() == {"start", "stop", "step"}:
            return slice(*(_fill(value[key], tensors) for key in ("start", "stop", "step")))
    return [_fill(item, tensors) for item in value] if isinstance(value, list) else value
