"""Makes a float16 version of a float32 model with ONNX Runtime's converter, if its values fit.

Inputs and outputs keep their types, so clients notice nothing.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, numpy_helper

from ..errors import ParityError, SourceError, WriteError
from ..progress import say
from ..runtime import OnnxModel
from ..staging import reason
from .quantize import Calibration

_MOST = float(np.finfo(np.float16).max)


def halve(content: bytes, model: OnnxModel, calibration: Calibration, *, source: str) -> bytes:
    """Returns the ONNX file of the float16 version of a float32 model.

    Args:
        content: the float32 model's ONNX file.
        model: the same, loaded.
        calibration: samples whose values must fit into float16 in every layer.
        source: its name in errors.

    Raises:
        ParityError: a weight or a layer's value is above 65,504, which float16 cannot hold.
        SourceError: ONNX Runtime cannot convert it.
        WriteError: the temporary folder is not writable or full.
    """
    say(f"converting to float16, checked on {calibration.count:,} samples")
    parsed = onnx.load_model_from_string(content)
    _check_weights(parsed)
    try:
        ranges = _ranges(content, model, calibration)
        converted = _convert(parsed)
    except OSError as error:
        raise WriteError(
            f"{tempfile.gettempdir()} cannot be written: {reason(error)}; make room, or set TMPDIR to another folder"
        ) from error
    except Exception as error:  # ONNX Runtime's tools and onnx raise a dozen types
        why = str(error).strip().partition("\n")[0]
        raise SourceError(f"{source}: ONNX Runtime cannot convert it to float16: {why}; omit --precision") from error
    name, largest = max(ranges.items(), key=lambda each: each[1], default=("", 0.0))
    if largest > _MOST:
        raise _overflow(f"the layer output {name} reaches {largest:,.0f} in the samples")
    return converted


def _check_weights(model: ModelProto) -> None:
    # The converter would cut them off at the largest float16.
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            largest = float(np.abs(numpy_helper.to_array(tensor)).max(initial=0.0))
            if _MOST < largest < np.inf:
                raise _overflow(f"the weights {tensor.name} reach {largest:,.0f}")


def _overflow(what: str) -> ParityError:
    return ParityError(
        f"--precision float16: {what}, and float16 holds at most {_MOST:,.0f}; nothing was written: omit the "
        f"option, or train with smaller values, such as scaled inputs or batch normalisation"
    )


def _ranges(content: bytes, model: OnnxModel, calibration: Calibration) -> dict[str, float]:
    """Returns the largest magnitude of each float tensor between layers, for the samples."""
    from onnxruntime.quantization.calibrate import MinMaxCalibrater

    with tempfile.TemporaryDirectory(prefix="pixelserve-") as folder:
        path = Path(folder) / "float32.onnx"
        path.write_bytes(content)
        calibrater = MinMaxCalibrater(path, augmented_model_path=str(Path(folder) / "ranges.onnx"))
        calibrater.augment_graph()
        calibrater.create_inference_session()
        calibrater.collect_data(calibration.reader(model))
        found = calibrater.compute_data()
    return {name: float(np.abs(data.range_value).max()) for name, data in found.items()}


def _convert(model: ModelProto) -> bytes:
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel as Graph

    graph = Graph(convert_float_to_float16(model, keep_io_types=True))
    # The converter appends its casts at the end.
    graph.topological_sort()
    converted: bytes = graph.model.SerializeToString()
    return converted
