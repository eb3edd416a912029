"""Refuses models that give NaN or infinities: a server would have no answer, and golden samples nothing to hold."""

from collections.abc import Mapping

import numpy as np

from ..errors import ParityError
from ..runtime import Array

_REMEDY = "nothing was written: a loss or weights became NaN in training; train it again, with a smaller learning rate"


def check_outputs(outputs: Mapping[str, Array]) -> None:
    """Checks what a model gives for samples: outputs by name, samples along the first axis.

    Raises:
        ParityError: NaN or an infinity is among them.
    """
    for name, values in outputs.items():
        if values.dtype.kind != "f":
            continue
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if bad.any():
            raise ParityError(
                f"the model's {name} has NaN or an infinity for {bad.sum():,} of {len(values):,} samples, first for "
                f"sample {int(bad.argmax())}; {_REMEDY}"
            )


def check_weights(content: bytes) -> None:
    """Checks the weights in an ONNX file, where there are no samples to run it on.

    Raises:
        ParityError: a tensor of weights has NaN.
    """
    # Imported here, since measuring does without it.
    import onnx
    from onnx import TensorProto, numpy_helper
    from onnx.external_data_helper import uses_external_data

    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
    for tensor in onnx.load_from_string(content).graph.initializer:
        # A single NaN may be there to compare with. Infinities are: masks have them.
        if tensor.data_type not in floats or uses_external_data(tensor) or np.prod(tensor.dims) <= 1:
            continue
        if np.isnan(numpy_helper.to_array(tensor)).any():
            raise ParityError(f"the model's weights {tensor.name} have NaN; {_REMEDY}")
