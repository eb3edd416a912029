"""Makes an int8 version of a float32 classifier with ONNX Runtime's static quantisation.

Weights get a scale per channel, activations one per tensor, from their ranges on calibration samples. The graph marks
its roundings (QDQ), so any provider can compute it. Inputs and outputs keep their types.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto

from ..errors import SourceError, UsageError, WriteError
from ..progress import say
from ..runtime import Array, OnnxModel
from ..staging import reason

CALIBRATION_SAMPLES = 500

_CALIBRATION_BATCH = 50
_CALIBRATION_SEED = 0
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Calibration:
    """Samples for the ranges of activations."""

    inputs: dict[str, Array]
    """Input tensors by name, samples along the first axis."""
    split: str
    """Their split, such as train."""

    @classmethod
    def choose(cls, inputs: Mapping[str, Array], split: str) -> "Calibration":
        """Returns 500 of the samples, always the same ones, or all if there are fewer."""
        count = len(next(iter(inputs.values())))
        # Data sets may be sorted by label, so neither the first nor every nth sample is representative.
        chosen = np.random.default_rng(_CALIBRATION_SEED).permutation(count)[:CALIBRATION_SAMPLES]
        return cls({name: array[chosen] for name, array in inputs.items()}, split)

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(next(iter(self.inputs.values())))

    def reader(self, model: OnnxModel) -> Any:
        """Returns ONNX Runtime's reader of the samples, in the shapes of `model`."""
        from onnxruntime.quantization import CalibrationDataReader

        class Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
            parts = _parts(self, model)

            def get_next(self) -> dict[str, Array] | None:
                return next(self.parts, None)

        return Reader()


def quantize(content: bytes, model: OnnxModel, calibration: Calibration, *, source: str) -> bytes:
    """Returns the ONNX file of the int8 version of a float32 model.

    Args:
        content: the float32 model's ONNX file.
        model: the same, loaded.
        calibration: samples for the ranges of activations.
        source: its name in errors.

    Raises:
        UsageError: the model has nothing to quantise.
        SourceError: ONNX Runtime cannot quantise it.
        WriteError: the temporary folder is not writable or full.
    """
    say(f"quantising, calibrated on {calibration.count:,} samples")
    try:
        with tempfile.TemporaryDirectory() as folder:
            prepared = _prepare(content, Path(folder))
            last = _last_layer(prepared.graph)
            if not any(node.op_type in _WEIGHTED and node.name not in last for node in prepared.graph.node):
                raise UsageError(
                    f"{source}: nothing to quantise: only the last layer has weights, which stays float32; "
                    f"omit --precision"
                )
            return _quantize(prepared, model, calibration, last, Path(folder) / "int8.onnx")
    except UsageError:
        raise
    except OSError as error:
        raise WriteError(
            f"{tempfile.gettempdir()} cannot be written: {reason(error)}; make room, or set TMPDIR to another folder"
        ) from error
    except Exception as error:  # ONNX Runtime's quantiser and onnx raise a dozen types
        why = str(error).strip().partition("\n")[0]
        raise SourceError(f"{source}: ONNX Runtime cannot quantise it: {why}; omit --precision") from error


def _prepare(content: bytes, folder: Path) -> ModelProto:
    """Returns a model with its constants folded, its normalisations merged, its shapes known and its nodes named."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    (folder / "float32.onnx").write_bytes(content)
    # Symbolic shapes need another library and matter to transformers only.
    quant_pre_process(str(folder / "float32.onnx"), str(folder / "prepared.onnx"), skip_symbolic_shape=True)
    model = onnx.load(folder / "prepared.onnx")
    # Nodes are excluded by name, and ONNX does not require names.
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    return model


def _last_layer(graph: GraphProto) -> list[str]:
    """Returns the names of the last nodes with weights before an output, and of all nodes after them.

    They stay float32, and are small: in 256 steps close probabilities would tie, and no longer add up to 1.
    """
    producers = {name: node for node in graph.node for name in node.output}
    pending = [tensor.name for tensor in graph.output]
    found: dict[str, None] = {}
    while pending:
        node = producers.get(pending.pop())
        if node is not None and node.name not in found:
            found[node.name] = None
            if node.op_type not in _WEIGHTED:
                pending.extend(node.input)
    return list(found)


def _quantize(model: ModelProto, runs: OnnxModel, calibration: Calibration, kept: list[str], path: Path) -> bytes:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    quantize_static(
        model,
        path,
        calibration.reader(runs),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        # Processors without VNNI add pairs of 8-bit products in 16 bits, which 7-bit weights cannot overflow.
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=kept,
    )
    return path.read_bytes()


def _parts(calibration: Calibration, model: OnnxModel) -> Iterator[dict[str, Array]]:
    step = _CALIBRATION_BATCH if model.batches else 1
    for start in range(0, calibration.count, step):
        part: Any = slice(start, start + step) if model.batches else start
        yield {name: array[part] for name, array in calibration.inputs.items()}
