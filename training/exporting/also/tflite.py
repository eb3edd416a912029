"""TensorFlow Lite: converted by TensorFlow from the traced function, run by LiteRT.

TensorFlow's own interpreter is deprecated in favour of LiteRT's (ai-edge-litert); its converter is not.
"""

from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np

from ... import frameworks
from ...errors import SourceError
from ...runtime import Array, OnnxModel, run_in_parts
from ..reasons import reason_of
from .base import Made

if TYPE_CHECKING:
    from ..signature import Signature
    from ..sources import Source

NAME = "tflite"
_FILE = "model.tflite"


def make(source: "Source", model: OnnxModel) -> Made:
    """See `base.Format`; the file's signature has the ONNX model's tensor names.

    Raises:
        MissingLibraryError: ai-edge-litert is not installed.
        SourceError: it is not a float32 model of Keras or TensorFlow, or uses operations that TensorFlow Lite lacks.
    """
    with frameworks.named_where_missing(extra="tflite"):
        from ai_edge_litert.interpreter import Interpreter
    if source.function is None or source.precision != "float32":
        raise SourceError(
            "--also tflite converts float32 models of Keras and TensorFlow; omit it, or export such a model without "
            "--precision"
        )
    content = _convert(source.function)
    runner = Interpreter(model_content=content, num_threads=1).get_signature_runner()

    def run_part(part: Mapping[str, Array]) -> dict[str, Array]:
        return {name: np.asarray(output) for name, output in runner(**part).items()}

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return run_in_parts(run_part, inputs, batches=model.batches)

    return Made({_FILE: content}, run, "ai-edge-litert", metadata.version("ai-edge-litert"))


def _convert(function: "Signature") -> bytes:
    tf = frameworks.load().tf
    spec = tf.TensorSpec(function.shape, function.dtype, name=function.input_name)
    module = tf.Module()
    module.traced = tf.function(lambda tensor: function.call(tensor), input_signature=[spec])
    concrete = module.traced.get_concrete_function()
    # The converter stores the values only of variables that the module holds.
    module.weights = list(concrete.graph.variables)
    try:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
        with frameworks.silent_stderr():
            content: bytes = converter.convert()
    except Exception as error:  # TensorFlow raises a dozen types
        raise SourceError(f"--also tflite: TensorFlow cannot convert the model: {reason_of(error)}") from error
    return content
