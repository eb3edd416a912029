"""Keras models and SavedModels as functions with named tensors, which the converters take."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import frameworks
from ..errors import SourceError
from ..runtime import Array, run_in_parts
from .reasons import reason_of

_PROBABILITIES = ("softmax", "sigmoid")


@dataclass(frozen=True)
class Signature:
    """A TensorFlow function of one tensor, with its tensors' names in ONNX."""

    call: Callable[[Any], dict[str, Any]]
    """Accepts a TensorFlow tensor, and for a Keras model also a symbolic one; returns a tensor per output, by name."""
    input_name: str
    """The input's name in the exported model."""
    shape: tuple[int | None, ...]
    """The input's shape, including the batch dimension; None for free dimensions."""
    dtype: str
    """The input's element type."""
    outputs: tuple[str, ...]
    """The outputs' names in the exported model, in the original's order."""
    activation: str
    """The last layer's activation; empty if unknown, or with several outputs."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Computes outputs in TensorFlow; inputs and outputs by name, samples along the first axis."""

        def run_part(part: Mapping[str, Array]) -> dict[str, Array]:
            tensor = frameworks.load().tf.constant(part[self.input_name], self.dtype)
            return {name: np.asarray(output) for name, output in self.call(tensor).items()}

        return run_in_parts(run_part, inputs, batches=self.shape[:1] == (None,))


def keras_signature(model: Any, *, source: str) -> Signature:
    """Returns a Keras model's inference function.

    Raises:
        SourceError: it does not have exactly one input, or was never built.
    """
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        raise SourceError(
            f"{source}: the input shape is unknown; add keras.Input(SHAPE) as the first layer, or call the model "
            f"once on data, and save it again"
        )
    if len(inputs) != 1:
        raise SourceError(
            f"{source}: expected a model with one input, found {len(inputs)}; export this model to .onnx with its "
            f"own tools"
        )
    keras = frameworks.load().keras
    shape = tuple(inputs[0].shape)
    activation = _last_activation(model) if len(outputs) == 1 else ""
    structure = getattr(model, "input", inputs[0])
    try:
        names = _output_names(model, model(structure, training=False), activation)
    except Exception as error:  # layers raise anything
        raise SourceError(f"{source}: Keras {keras.__version__} cannot compute it: {reason_of(error)}") from error

    def call(tensor: Any) -> dict[str, Any]:
        given = keras.tree.pack_sequence_as(structure, [tensor])
        return dict(zip(names, keras.tree.flatten(model(given, training=False)), strict=True))

    return Signature(
        call=call,
        input_name=_input_name(shape),
        shape=shape,
        dtype=str(inputs[0].dtype),
        outputs=names,
        activation=activation,
    )


def saved_model_signature(loaded: Any, *, source: str) -> Signature:
    """Returns a SavedModel's default serving signature, or its only one.

    Raises:
        SourceError: it has no such signature, or that does not have exactly one input.
    """
    signatures = loaded.signatures
    if "serving_default" not in signatures and len(signatures) != 1:
        raise SourceError(
            f"{source}: the SavedModel has no signature serving_default (it has: {', '.join(signatures) or 'none'}); "
            f"save it with model.export(FOLDER), or with tf.saved_model.save(model, FOLDER, signatures=FUNCTION)"
        )
    signature = "serving_default" if "serving_default" in signatures else next(iter(signatures))
    function = signatures[signature]
    specs = function.structured_input_signature[1]
    if len(specs) != 1:
        raise SourceError(f"{source}: expected a signature with one input, found {len(specs)}")
    argument, spec = next(iter(specs.items()))
    if spec.shape.rank is None:
        raise SourceError(f"{source}: the input's number of dimensions is not fixed; save it with a fixed input shape")
    shape = tuple(spec.shape.as_list())
    outputs = list(function.structured_outputs)
    names = dict(zip(outputs, outputs if len(outputs) > 1 else ["output"], strict=True))

    def call(tensor: Any) -> dict[str, Any]:
        # Through `loaded`, because a function alone does not keep its variables alive.
        returned = loaded.signatures[signature](**{argument: tensor})
        return {name: returned[output] for output, name in names.items()}

    return Signature(
        call=call,
        input_name=_input_name(shape),
        shape=shape,
        dtype=spec.dtype.name,
        outputs=tuple(names.values()),
        activation="",
    )


def with_both_classes(signature: Signature) -> Signature:
    """Returns a function of two classes' probabilities, 1 − p and p, from `signature`'s output p, [N, 1]."""
    ops = frameworks.load().keras.ops

    def call(tensor: Any) -> dict[str, Any]:
        ((name, second),) = signature.call(tensor).items()
        return {name: ops.concatenate([1 - second, second], axis=-1)}

    return replace(signature, call=call)


def _input_name(shape: tuple[int | None, ...]) -> str:
    return "image" if len(shape) == 4 else "features"


def _output_names(model: Any, returned: Any, activation: str) -> tuple[str, ...]:
    """Returns the names of a model's outputs, in Keras's flattening order."""
    keras = frameworks.load().keras
    if isinstance(returned, dict):
        return tuple(".".join(map(str, path)) for path, _ in keras.tree.flatten_with_path(returned))
    if len(model.outputs) > 1:
        names = tuple(getattr(model, "output_names", ()))
        distinct = len(set(names)) == len(model.outputs)
        return names if distinct else tuple(f"output_{number}" for number in range(len(model.outputs)))
    # An ensemble's mean of probabilities has no activation; its name identifies it.
    gives_probabilities = activation in _PROBABILITIES or model.layers[-1].name == "probabilities"
    return ("probabilities" if gives_probabilities else "output",)


def _last_activation(model: Any) -> str:
    layer = model.layers[-1]
    if type(layer).__name__ == "Softmax":
        return "softmax"
    return str(getattr(getattr(layer, "activation", None), "__name__", ""))
