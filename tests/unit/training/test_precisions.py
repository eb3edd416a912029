"""Models of other precisions than float32, and the servers' tolerances."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pixelserve.golden import read_golden
from pixelserve_training.exporting.export import Exported, Target, export_file

FLOAT, HALF, DOUBLE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE


def write(path: Path, *, outside: int, inside: int, scale: float = 1.0) -> None:
    """Writes `x` [n, 4] -> `y` [n, 3], which multiplies in the type `inside` and takes and gives the type `outside`."""
    weights = (np.arange(12).reshape(4, 3) / 12 * scale).astype(helper.tensor_dtype_to_np_dtype(inside))
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["cast"], to=inside),
            helper.make_node("MatMul", ["cast", "weights"], ["product"]),
            helper.make_node("Cast", ["product"], ["y"], to=outside),
        ],
        "precisions",
        [helper.make_tensor_value_info("x", outside, ["n", 4])],
        [helper.make_tensor_value_info("y", outside, ["n", 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def export(folder: Path, tolerance: float | None = None, **options: Any) -> Exported:
    write(folder / "m.onnx", **options)
    np.savez(folder / "samples.npz", x=np.eye(4))
    target = Target(folder / "models", "m", tolerance=tolerance)
    return export_file(folder / "m.onnx", target, labels=None, samples=folder / "samples.npz", pixel_scale=None)


@pytest.mark.parametrize(
    ("outside", "inside", "scale", "precision", "tolerance"),
    [
        (FLOAT, FLOAT, 1, "float32", 1e-5),
        (FLOAT, FLOAT, 12_000, "float32", 0.11),
        (FLOAT, HALF, 1, "float16", 1e-2),
        (HALF, HALF, 1, "float16", 1e-2),
        (HALF, HALF, 120, "float16", 1.1),
        (DOUBLE, DOUBLE, 1, "float64", 1e-5),
    ],
)
def test_the_tolerance_is_that_of_the_precision_and_of_the_largest_output(
    tmp_path: Path, outside: int, inside: int, scale: float, precision: str, tolerance: float
) -> None:
    exported = export(tmp_path, outside=outside, inside=inside, scale=scale)
    assert [entry.precision for entry in exported.card.parity] == [precision, precision]
    assert exported.card.tolerance("CPUExecutionProvider") == pytest.approx(tolerance, rel=1e-2)
    golden = read_golden(exported.slot.folder / "golden.npz")
    assert golden.inputs["x"].dtype == golden.outputs["y"].dtype == helper.tensor_dtype_to_np_dtype(outside)


def test_a_tolerance_that_is_given_holds(tmp_path: Path) -> None:
    exported = export(tmp_path, 0.5, outside=HALF, inside=HALF, scale=120)
    assert exported.card.tolerance("CPUExecutionProvider") == 0.5
