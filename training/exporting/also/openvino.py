"""OpenVINO's IR: read from the ONNX file, written and run by OpenVINO."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import frameworks
from ...errors import SourceError
from ...runtime import Array, OnnxModel, run_in_parts
from .base import Made

if TYPE_CHECKING:
    from ..sources import Source

NAME = "openvino"
_FILE, _WEIGHTS = "model.xml", "model.bin"
# On processors with AMX, OpenVINO would otherwise compute in bfloat16.
_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


def library() -> Any:
    """Imports OpenVINO without telemetry.

    Raises:
        MissingLibraryError: openvino is not installed.
    """
    with frameworks.named_where_missing(extra="openvino"):
        from pixelserve.openvino_runtime import ov
    return ov


def make(source: "Source", model: OnnxModel) -> Made:
    """See `base.Format`; weights keep the ONNX file's types.

    Raises:
        MissingLibraryError: openvino is not installed.
        SourceError: its weights are in files beside it, or OpenVINO cannot read it.
    """
    openvino = library()
    if source.weights:
        raise SourceError("--also openvino is for models in one file, below 2 GB; omit it")
    core = openvino.Core()
    with tempfile.TemporaryDirectory(prefix="pixelserve-") as folder:
        path = Path(folder) / _FILE
        (Path(folder) / "model.onnx").write_bytes(source.onnx)
        try:
            # By default it would store weights as float16.
            openvino.save_model(core.read_model(Path(folder) / "model.onnx"), path, compress_to_fp16=False)
            compiled = core.compile_model(path, "CPU", _SETTINGS)
        except Exception as error:  # OpenVINO raises RuntimeError and others
            why = str(error).strip().splitlines()[-1]
            raise SourceError(f"--also openvino: OpenVINO cannot read the model: {why}; omit it") from error
        files = {name: (Path(folder) / name).read_bytes() for name in (_FILE, _WEIGHTS)}

    def run_part(part: Mapping[str, Array]) -> dict[str, Array]:
        found = compiled(dict(part))
        return {tensor.name: np.array(found[tensor.name]) for tensor in model.outputs}

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return run_in_parts(run_part, inputs, batches=model.batches)

    return Made(files, run, "openvino", openvino.__version__.partition("-")[0])
