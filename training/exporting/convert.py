"""Turns Keras models and SavedModels into ONNX, by way of one traced function with named tensors.

tf2onnx's `from_keras` knows Keras 2 only and fails with Keras 3, hence `from_function`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import ModelProto, numpy_helper

from .. import frameworks
from ..errors import SourceError, UsageError
from ..runtime import Array, run_in_parts
from .folding import fold_into_convolutions
from .simplify import simplify

# The newest that tf2onnx is tested with, and old enough for any ONNX Runtime of recent years.
_OPSET = 17
_PROBABILITIES = ("softmax", "sigmoid")


@dataclass(frozen=True)
class Signature:
    """A TensorFlow function of one tensor, with the names that its tensors have in ONNX."""

    call: Callable[[Any], Any]
    """Takes a TensorFlow tensor, returns one."""
    input_name: str
    """The input's name in the exported model."""
    shape: tuple[int | None, ...]
    """The input's shape, batch dimension included; None where a request chooses."""
    dtype: str
    """The input's element type."""
    output_name: str
    """The output's name in the exported model."""
    activation: str
    """The last layer's activation; empty: not known."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the output of inputs, in TensorFlow; both by name, samples along the first axis."""

        def run_part(part: Mapping[str, Array]) -> dict[str, Array]:
            tensor = frameworks.load().tf.constant(part[self.input_name], self.dtype)
            return {self.output_name: np.asarray(self.call(tensor))}

        return run_in_parts(run_part, inputs, batches=self.shape[:1] == (None,))


def keras_signature(model: Any, *, source: str) -> Signature:
    """Returns the function that a Keras model computes when it does not train.

    Raises:
        SourceError: it has not exactly one input and one output.
    """
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs or len(inputs) != 1 or len(outputs) != 1:
        raise SourceError(
            f"{source}: expected a model with one input and one output, found "
            f"{len(inputs or ())} and {len(outputs or ())}; export such a model to .onnx with its own tools first"
        )
    shape = tuple(inputs[0].shape)
    activation = _last_activation(model)
    # An ensemble that ends in a mean of probabilities has no activation, and says by its name what it gives.
    gives_probabilities = activation in _PROBABILITIES or model.layers[-1].name == "probabilities"
    return Signature(
        call=lambda tensor: model(tensor, training=False),
        input_name=_input_name(shape),
        shape=shape,
        dtype=str(inputs[0].dtype),
        output_name="probabilities" if gives_probabilities else "output",
        activation=activation,
    )


def saved_model_signature(loaded: Any, *, source: str) -> Signature:
    """Returns the function that a SavedModel serves by default.

    Raises:
        SourceError: it serves none, or one that has not exactly one input and one output.
    """
    function = loaded.signatures.get("serving_default")
    if function is None:
        raise SourceError(
            f"{source}: the SavedModel has no signature serving_default (it has: "
            f"{', '.join(loaded.signatures) or 'none'}); save it with model.export(FOLDER)"
        )
    specs = function.structured_input_signature[1]
    if len(specs) != 1 or len(function.structured_outputs) != 1:
        raise SourceError(
            f"{source}: expected a signature with one input and one output, "
            f"found {len(specs)} and {len(function.structured_outputs)}"
        )
    (argument, spec), (output, _) = next(iter(specs.items())), next(iter(function.structured_outputs.items()))
    if spec.shape.rank is None:
        raise SourceError(f"{source}: the input's number of dimensions is not fixed; save it with a fixed input shape")
    shape = tuple(spec.shape.as_list())
    return Signature(
        call=lambda tensor: function(**{argument: tensor})[output],
        input_name=_input_name(shape),
        shape=shape,
        dtype=spec.dtype.name,
        output_name="output",
        activation="",
    )


def with_raw_pixels(signature: Signature, scale: float, *, source: str) -> Signature:
    """Returns a function of raw uint8 pixels that multiplies them by `scale` and goes on with `signature`.

    Raises:
        UsageError: the model takes integers as it is, so it was not trained on scaled pixels.
    """
    if not signature.dtype.startswith("float"):
        raise UsageError(f"--pixel-scale: {source} takes {signature.dtype} already; leave the option out")
    tf = frameworks.load().tf
    return replace(
        signature,
        call=lambda tensor: signature.call(tf.cast(tensor, signature.dtype) * scale),
        dtype="uint8",
    )


def with_both_classes(signature: Signature) -> Signature:
    """Returns a function that gives 1 − p and p, the two classes' probabilities, where `signature` gives p, [N, 1]."""
    tf = frameworks.load().tf

    def call(tensor: Any) -> Any:
        second = signature.call(tensor)
        return tf.concat([1 - second, second], axis=-1)

    return replace(signature, call=call)


def to_onnx(signature: Signature, *, source: str) -> bytes:
    """Returns the ONNX file of a function.

    Raises:
        SourceError: it uses an operation that has no counterpart in ONNX.
    """
    tf = frameworks.load().tf
    tf2onnx = frameworks.load_tf2onnx()
    spec = tf.TensorSpec(signature.shape, signature.dtype, name=signature.input_name)
    function = tf.function(lambda tensor: {signature.output_name: signature.call(tensor)}, input_signature=[spec])
    try:
        model, _ = tf2onnx.convert.from_function(function, input_signature=[spec], opset=_OPSET)
    except Exception as error:  # whatever a layer or tf2onnx raises
        reason = str(error).strip().partition("\n")[0]
        raise SourceError(f"{source}: tf2onnx cannot convert it: {reason}") from error
    _fix_captured(model, function.get_concrete_function())
    simplify(model)
    fold_into_convolutions(model)
    content: bytes = model.SerializeToString()
    return content


def _fix_captured(model: ModelProto, function: Any) -> None:
    """Writes down the tensors that a traced function takes from outside of it, such as a Normalization layer's mean.

    tf2onnx leaves them as inputs that every caller would have to give.
    """
    taken = {inside.name: outside for outside, inside in function.graph.captures}
    for value in [value for value in model.graph.input if value.name in taken]:
        model.graph.initializer.append(numpy_helper.from_array(taken[value.name].numpy(), value.name))
        model.graph.input.remove(value)


def _input_name(shape: tuple[int | None, ...]) -> str:
    return "image" if len(shape) == 4 else "features"


def _last_activation(model: Any) -> str:
    layer = model.layers[-1]
    if type(layer).__name__ == "Softmax":
        return "softmax"
    return str(getattr(getattr(layer, "activation", None), "__name__", ""))
