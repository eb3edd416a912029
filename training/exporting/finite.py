"""Refuses models with NaN or infinite outputs, which can be neither served nor verified."""

from collections.abc import Mapping

import numpy as np

from ..errors import ParityError
from ..runtime import Array

_REMEDY = "nothing was written: the loss or weights became NaN in training; train again with a smaller learning rate"


def check_outputs(outputs: Mapping[str, Array]) -> None:
    """Checks a model's outputs by name, samples along the first axis.

    Raises:
        ParityError: a value is NaN or infinite.
    """
    for name, values in outputs.items():
        if values.dtype.kind != "f":
            continue
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if bad.any():
            raise ParityError(
                f"the model's {name} is NaN or infinite for {bad.sum():,} of {len(values):,} samples, first for "
                f"sample {int(bad.argmax())}; {_REMEDY}"
            )


def check_weights(content: bytes) -> None:
    """Checks the weights in an ONNX file, for exports without samples.

    Raises:
        ParityError: a weight tensor contains NaN.
    """
    # Imported here, because measuring does not need it.
    import onnx
    from onnx import TensorProto, numpy_helper
    from onnx.external_data_helper import uses_external_data

    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
    for tensor in onnx.load_from_string(content).graph.initializer:
        # A scalar NaN may be a constant to compare with; infinities are normal in masks.
        if tensor.data_type not in floats or uses_external_data(tensor) or np.prod(tensor.dims) <= 1:
            continue
        if np.isnan(numpy_helper.to_array(tensor)).any():
            raise ParityError(f"the model's weights {tensor.name} have NaN; {_REMEDY}")
