"""OpenVINO as an engine: the same answers as ONNX Runtime, within its precision's rule, and nothing sent anywhere."""

import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pixelserve.golden import read_golden, replay_by_rule
from pixelserve.precisions import RULES, this_processor
from pixelserve_server.engine.providers import EngineChoice, SessionOptions
from pixelserve_server.engine.providers.openvino import OpenVino
from pixelserve_server.engine.session import Session
from pixelserve_server.errors import RepositoryError, StartupError

ROOT = Path(__file__).resolve().parents[3]
MODELS = ROOT / "models"
OPENVINO = (EngineChoice("openvino"),)
# A model of 0.4 MB.
SMALL = MODELS / "mnist-cnn" / "1"


def opened(model: Path, engines: tuple[EngineChoice, ...] = OPENVINO, **options: Any) -> Session:
    return Session(model, SessionOptions(engines=engines, intra_op_threads=1, **options))


def graph(nodes: list[Any], inputs: Mapping[str, Any], outputs: Mapping[str, Any], path: Path) -> Path:
    """Writes a model; inputs and outputs are (element type, shape) by name."""
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info(name, *spec) for name, spec in outputs.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def two_by_two(tmp_path: Path) -> Path:
    """Two inputs of different types and shapes, one passed through, and two outputs in another order."""
    nodes = [
        helper.make_node("Cast", ["b"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["a", "wide"], ["product"]),
        helper.make_node("Identity", ["b"], ["same"]),
    ]
    inputs = {"b": (TensorProto.INT64, ["n", 3, 2]), "a": (TensorProto.FLOAT, ["n", 2, 3])}
    outputs = {"same": (TensorProto.INT64, ["n", 3, 2]), "product": (TensorProto.FLOAT, ["n", 2, 2])}
    return graph(nodes, inputs, outputs, tmp_path / "model.onnx")


def batch(rows: int, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "a": random.random((rows, 2, 3)).astype(np.float32),
        "b": random.integers(-9, 9, (rows, 3, 2)),
    }


def test_it_describes_tensors_as_onnx_runtime_does() -> None:
    for model in sorted(MODELS.glob("*/1/model.onnx")):
        ours, theirs = opened(model), opened(model, (EngineChoice(),))
        assert (ours.inputs, ours.outputs) == (theirs.inputs, theirs.outputs), model


def test_several_inputs_and_outputs_keep_their_names_types_and_values(two_by_two: Path) -> None:
    session = opened(two_by_two)
    session.warm(4, batch(4))
    # 4 rows are compiled ahead, the others are not.
    for rows in (1, 4, 4, 5, 1):
        inputs = batch(rows, seed=rows)
        outputs = session.run(dict(reversed(inputs.items())))
        assert outputs["same"].dtype == np.int64
        np.testing.assert_array_equal(outputs["same"], inputs["b"])
        np.testing.assert_allclose(outputs["product"], inputs["a"] @ inputs["b"], rtol=1e-5)


def test_a_later_run_leaves_the_outputs_of_an_earlier_one_alone(two_by_two: Path) -> None:
    session = opened(two_by_two)
    session.warm(2, batch(2))
    for rows in (2, 3):
        first = session.run(batch(rows, seed=1))
        before = {name: array.copy() for name, array in first.items()}
        session.run(batch(rows, seed=2))
        assert all((first[name] == before[name]).all() for name in before)


def test_it_takes_arrays_that_must_not_be_written_to(two_by_two: Path) -> None:
    session = opened(two_by_two)
    session.warm(2, batch(2))
    for rows in (2, 3):
        inputs = {
            name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)
            for name, array in batch(rows).items()
        }
        np.testing.assert_array_equal(session.run(inputs)["same"], inputs["b"])


def test_many_threads_run_one_session_at_once(two_by_two: Path) -> None:
    session = opened(two_by_two)
    session.warm(4, batch(4))

    def is_right(seed: int) -> bool:
        inputs = batch(4 if seed % 2 else 3, seed)
        return bool((session.run(inputs)["same"] == inputs["b"]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(is_right, range(400)))


def test_a_free_dimension_beside_the_batch_is_free_in_a_run(tmp_path: Path) -> None:
    model = graph(
        [helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0, noop_with_empty_axes=0)],
        {"x": (TensorProto.FLOAT, ["n", "length"])},
        {"sum": (TensorProto.FLOAT, [])},
        tmp_path / "model.onnx",
    )
    session = opened(model)
    assert session.inputs[0].shape == (-1, -1)
    assert [float(session.run({"x": np.ones(shape, np.float32)})["sum"]) for shape in ((1, 2), (3, 5))] == [2, 15]


@pytest.mark.parametrize("kind", ["STRING", "BFLOAT16"])
def test_tensors_that_it_cannot_pass_are_refused_with_the_remedy(tmp_path: Path, kind: str) -> None:
    element = getattr(TensorProto, kind)
    model = graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        {"x": (element, ["n"])},
        {"y": (element, ["n"])},
        tmp_path / "model.onnx",
    )
    with pytest.raises(RepositoryError, match=r"OpenVINO .*use --engine onnxruntime"):
        opened(model)


POOLED = [
    helper.make_node("Conv", ["x", "kernel"], ["c"], kernel_shape=[2, 2]),
    helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
]
ALONE = [helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[2, 2], strides=[2, 2])]
SHIFTED = [*POOLED[:1], helper.make_node("MaxPool", ["c"], ["m"], kernel_shape=[2, 2], strides=[2, 2])]
SHIFTED += [helper.make_node("Add", ["m", "shift"], ["p"])]
SILU = [helper.make_node("Sigmoid", ["p"], ["s"]), helper.make_node("Mul", ["p", "s"], ["y"])]


def pooled(nodes: list[Any], path: Path) -> Path:
    constants = [
        helper.make_node("Constant", [], ["kernel"], value=numpy_helper.from_array(KERNEL)),
        helper.make_node("Constant", [], ["shift"], value=numpy_helper.from_array(SHIFT)),
    ]
    image = (TensorProto.FLOAT, ["n", 1, 9, 9])
    return graph([*constants, *nodes], {"x": image}, {"y": (TensorProto.FLOAT, ["n", "c", "h", "w"])}, path)


KERNEL = np.random.default_rng(0).normal(size=(4, 1, 2, 2)).astype(np.float32)
SHIFT = np.full((1, 4, 1, 1), 0.25, np.float32)


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param([*POOLED, helper.make_node("Relu", ["p"], ["y"])], id="monotonic"),
        pytest.param([*POOLED, helper.make_node("Sigmoid", ["p"], ["y"])], id="a sigmoid alone"),
        pytest.param([*ALONE, *SILU], id="no convolution"),
        pytest.param([*SHIFTED, *SILU], id="a shift between them"),
    ],
)
def test_other_activations_after_a_pooling_are_computed_as_by_onnx_runtime(nodes: list[Any], tmp_path: Path) -> None:
    model = pooled(nodes, tmp_path / "model.onnx")
    images = {"x": np.random.default_rng(1).normal(size=(3, 1, 9, 9)).astype(np.float32)}
    expected = Session(model, SessionOptions(intra_op_threads=1)).run(images)["y"]
    np.testing.assert_allclose(opened(model).run(images)["y"], expected, atol=1e-5)


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"no model")
    with pytest.raises(RepositoryError, match=r"model\.onnx: OpenVINO 20\S+ cannot load it"):
        opened(model)


def test_an_unknown_property_names_the_option() -> None:
    with pytest.raises(StartupError, match=r"--session-option: OpenVINO refused it: .*NO_SUCH"):
        opened(SMALL / "model.onnx", config={"openvino.NO_SUCH": "1"})


def test_a_property_that_changes_the_precision_is_reported() -> None:
    if "bfloat16" not in OpenVino().precisions():
        pytest.skip("this processor does not compute bfloat16")
    session = opened(SMALL / "model.onnx", config={"openvino.INFERENCE_PRECISION_HINT": "bf16"})
    assert session.precisions == ("bfloat16",)
    assert (session.in_use.engine, session.in_use.precision) == ("openvino", "bfloat16")


def test_a_precision_that_the_processor_emulates_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    old = this_processor(ROOT / "no such file")
    monkeypatch.setattr("pixelserve_server.engine.providers.openvino.this_processor", lambda: old)
    assert OpenVino().precisions() == ("float32",)


@pytest.mark.slow
@pytest.mark.parametrize("precision", sorted(set(OpenVino().precisions()) - {"int8"}))
@pytest.mark.parametrize("name", sorted(path.name for path in MODELS.iterdir()))
def test_every_committed_model_keeps_to_its_precisions_rule(name: str, precision: str) -> None:
    session = opened(MODELS / name / "1" / "model.onnx", (EngineChoice("openvino", precision),))
    golden = read_golden(MODELS / name / "1" / "golden.npz")
    found = replay_by_rule(golden, session.run, precision)
    # Otherwise it would not have been computed in that precision at all.
    assert (found > RULES["float32"].rows / 10) == (precision != "float32") or found < 1e-3


def test_small_and_large_batches_may_have_engines_of_their_own(two_by_two: Path) -> None:
    session = opened(two_by_two, (EngineChoice(), EngineChoice("openvino", "float32", from_rows=3)))
    assert (session.in_use.engine, session.in_use.precision) == ("onnxruntime+openvino", "float32+float32")
    small, large = (each for each in session._executor._executors)  # type: ignore[attr-defined]
    ran: list[tuple[str, int]] = []
    for name, executor in (("small", small), ("large", large)):
        run = executor.run
        executor.run = lambda inputs, name=name, run=run: ran.append((name, len(inputs["a"]))) or run(inputs)
    for rows in (1, 2, 3, 9):
        session.run(batch(rows))
    assert ran == [("small", 1), ("small", 2), ("large", 3), ("large", 9)]


_WATCHED = """
import os, socket, sys

class Refused(socket.socket):
    def __init__(self, *args, **kwargs):
        raise SystemExit("a socket was made")

socket.socket = Refused
import numpy as np
from pathlib import Path
from pixelserve_server.engine.providers import EngineChoice, SessionOptions
from pixelserve_server.engine.session import Session

session = Session(Path(sys.argv[1]), SessionOptions(engines=(EngineChoice("openvino"),)))
inputs = {session.inputs[0].name: np.zeros((1, 28, 28, 1), np.uint8)}
session.warm(1, inputs)
session.run(inputs)
import openvino
try:
    openvino.convert_model(Path(sys.argv[1]))
except Exception as error:
    raise SystemExit(f"cannot convert: {error}")
files = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
print([link for link in map(os.readlink, filter(os.path.exists, files)) if link.startswith("socket:")])
print([name for name in sys.modules if name.split(".")[0] == "openvino_telemetry" and sys.modules[name] is not None])
print([path for path in Path.home().rglob("*")])
"""


@pytest.mark.slow
def test_it_reports_nothing_to_anyone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, str(SMALL / "model.onnx")],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # No socket is open, no part of the telemetry package was loaded, and no client id was written.
    assert (done.stdout.splitlines(), done.returncode) == (["[]", "[]", "[]"], 0), done.stderr


def test_a_batch_size_that_it_cannot_compile_ahead_runs_all_the_same(
    two_by_two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(two_by_two)

    def refuse(graph: Any) -> Any:
        raise RepositoryError("no memory")

    monkeypatch.setattr(session._executor, "_compile", refuse)
    session.warm(2, batch(2))
    assert session.notes == ("OpenVINO does not compile batches of 2 rows ahead: no memory",)
    assert session.run(batch(2))["product"].shape == (2, 2, 2)
