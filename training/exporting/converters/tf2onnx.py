"""Converts by tf2onnx, from a traced TensorFlow function.

tf2onnx's `from_keras` supports Keras 2 only, hence `from_function`.
"""

from collections.abc import Sequence
from typing import Any

from onnx import ModelProto, defs, numpy_helper

from ... import frameworks
from ...errors import SourceError
from ...running import runs
from ..reasons import reason_of
from ..signature import Signature
from .base import Conversion, Converted

NAME = "tf2onnx"


class Tf2Onnx:
    """See `base.Converter`."""

    # The oldest whose Squeeze and Softmax are those that the passes over the graph know, to tf2onnx's newest.
    opsets = range(13, 19)
    # Supported by every recent ONNX Runtime.
    default_opset = 17

    def convert(self, signature: Signature, conversion: Conversion, *, opset: int, source: str) -> Converted:
        """See `base.Converter`."""
        return Converted(
            to_onnx(signature, opset=opset, source=source),
            runs.library_versions(("keras", "numpy", "onnx", "pixelserve", "tensorflow", "tf2onnx")),
        )


CONVERTER = Tf2Onnx()


def to_onnx(signature: Signature, *, source: str, opset: int = Tf2Onnx.default_opset) -> ModelProto:
    """Converts a function.

    Args:
        signature: the function.
        source: its name in errors.
        opset: the version of ONNX's operator set.

    Raises:
        SourceError: it uses an operation without a counterpart in ONNX.
    """
    tf = frameworks.load().tf
    tf2onnx = frameworks.load_tf2onnx()
    spec = tf.TensorSpec(signature.shape, signature.dtype, name=signature.input_name)
    function = tf.function(lambda tensor: signature.call(tensor), input_signature=[spec])
    try:
        model, _ = tf2onnx.convert.from_function(function, input_signature=[spec], opset=opset)
    except Exception as error:  # layers and tf2onnx raise anything
        raise SourceError(f"{source}: tf2onnx cannot convert it: {reason_of(error)}") from error
    _check_operations(model, source)
    _fix_captured(model, function.get_concrete_function())
    _order_outputs(model, signature.outputs)
    return model


def _fix_captured(model: ModelProto, function: Any) -> None:
    """Stores captured tensors, such as a Normalization layer's mean, as constants.

    tf2onnx leaves them as graph inputs.
    """
    taken = {inside.name: outside for outside, inside in function.graph.captures}
    for value in [value for value in model.graph.input if value.name in taken]:
        model.graph.initializer.append(numpy_helper.from_array(taken[value.name].numpy(), value.name))
        model.graph.input.remove(value)


def _check_operations(model: ModelProto, source: str) -> None:
    # tf2onnx leaves unknown operations unchanged.
    unknown = sorted({node.op_type for node in model.graph.node if not node.domain and not defs.has(node.op_type)})
    if not unknown:
        return
    remedy = "replace the layers that use it"
    if any("Random" in operation for operation in unknown):
        remedy = "augmentation is part of this SavedModel; save the model with model.save('model.keras') instead"
    raise SourceError(f"{source}: ONNX has no counterpart of TensorFlow's {' and '.join(unknown)}: {remedy}")


def _order_outputs(model: ModelProto, names: Sequence[str]) -> None:
    # A traced function sorts its outputs.
    ordered = sorted(model.graph.output, key=lambda output: names.index(output.name))
    del model.graph.output[:]
    model.graph.output.extend(ordered)
