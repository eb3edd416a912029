"""Loading ONNX files: their metadata, and refused ones."""

import importlib.metadata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from pixelserve_server.engine.providers import InUse, SessionOptions, check_runtime
from pixelserve_server.engine.providers.cpu import Cpu
from pixelserve_server.engine.providers.cuda import Cuda
from pixelserve_server.engine.reshape import Reshape
from pixelserve_server.engine.session import Session
from pixelserve_server.engine.tensors import BY_NAME, FREE
from pixelserve_server.errors import InvalidRequest, RepositoryError, StartupError

CPU, CUDA = Cpu.name, Cuda.name
Write = Callable[..., Path]

ONNX_TYPES = {
    **{"BOOL": "BOOL", "BYTES": "STRING", "FP16": "FLOAT16", "BF16": "BFLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE"},
    **{name: name for name in ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")},
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Where a test writes its model."""
    return tmp_path / "m" / "1" / "model.onnx"


def open_session(model: Path, *, device: str = "cpu") -> Session:
    return Session(model, SessionOptions(device=device, intra_op_threads=1))


def test_a_session_computes_on_the_cpu(model: Path, model_writer: Write) -> None:
    session = open_session(model_writer(model))
    values = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], dtype=np.float32)
    assert session.provider == CPU
    np.testing.assert_array_equal(session.run({"values": values})["doubled"], values * 2, strict=True)


def test_a_session_shows_the_graphs_tensors_in_its_order(model: Path, graph_writer: Write) -> None:
    pixels, flag = ("UINT8", ["N", 28, "width"]), ("BOOL", [])
    graph_writer(
        model,
        {"pixels": pixels, "flag": flag},
        {"same": pixels, "no": flag},
        ("Identity", "pixels", "same"),
        ("Not", "flag", "no"),
    )
    session = open_session(model)
    assert [(spec.name, spec.datatype.name, spec.shape) for spec in (*session.inputs, *session.outputs)] == [
        ("pixels", "UINT8", (FREE, 28, FREE)),
        ("flag", "BOOL", ()),
        ("same", "UINT8", (FREE, 28, FREE)),
        ("no", "BOOL", ()),
    ]


@pytest.mark.parametrize("name", [b"ROWS", b"values", b"doubled"], ids=["a dimension", "an input", "an output"])
def test_a_name_that_is_not_utf_8_is_refused(model: Path, model_writer: Write, name: bytes) -> None:
    content = model_writer(model, rows="ROWS").read_bytes()
    model.write_bytes(content.replace(name, name[:-1] + b"\xff"))
    with pytest.raises(RepositoryError, match=r"model\.onnx: the name of a tensor or of a dimension is not UTF-8"):
        open_session(model)


def test_the_table_of_types_has_every_datatype() -> None:
    assert ONNX_TYPES.keys() == BY_NAME.keys()


@pytest.mark.parametrize("datatype", ONNX_TYPES)
def test_every_datatype_goes_in_and_comes_out(model: Path, graph_writer: Write, datatype: str) -> None:
    tensor = (ONNX_TYPES[datatype], ["N"])
    session = open_session(graph_writer(model, {"x": tensor}, {"y": tensor}, ("Identity", "x", "y")))
    assert session.inputs[0].datatype.name == datatype
    x = np.array([0, 1]).astype(BY_NAME[datatype].dtype)
    x = np.array(["no", "größer"], dtype=object) if datatype == "BYTES" else x
    np.testing.assert_array_equal(session.run({"x": x})["y"], x, strict=True)


@pytest.mark.parametrize("kind", ["COMPLEX64", "FLOAT8E4M3FN", "INT4"])
def test_an_element_type_that_is_not_served_is_refused(model: Path, graph_writer: Write, kind: str) -> None:
    tensor = (kind, ["N"])
    graph_writer(model, {"x": tensor}, {"y": tensor}, ("Identity", "x", "y"))
    # Where it is only named, or where ONNX Runtime has no kernel for it.
    with pytest.raises(RepositoryError, match=r"model\.onnx: (x is a tensor\(.*not served|ONNX Runtime .*cannot load)"):
        open_session(model)


def test_a_tensor_of_very_many_dimensions_is_refused(model: Path, graph_writer: Write) -> None:
    for rank in (2, 32, 33):
        tensor = ("FLOAT", ["N", *[1] * (rank - 1)])
        graph_writer(model, {"x": tensor}, {"y": tensor}, ("Identity", "x", "y"))
        if rank <= 32:
            assert len(open_session(model).inputs[0].shape) == rank
    with pytest.raises(RepositoryError, match=r"model\.onnx: x has 33 dimensions; at most 32 are served"):
        open_session(model)
    # As clients see it.
    flat = ("FLOAT", ["N", 2])
    graph_writer(model, {"x": flat}, {"y": flat}, ("Identity", "x", "y"))
    with pytest.raises(RepositoryError, match="y has 34 dimensions"):
        Session(model, SessionOptions(device="cpu"), {"y": Reshape((FREE, *[1] * 32, 2), (FREE, 2))})


def test_dictionaries_of_probabilities_are_refused_with_the_way_to_a_model_without_them(
    model: Path, graph_writer: Write
) -> None:
    graph_writer(model, {"x": ("FLOAT", ["n", 2])}, {"y": ("FLOAT", ["n", 2])}, ("Identity", "x", "y"))
    graph = onnx.load(model)
    zipped = onnx.helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    graph.graph.node[0].CopyFrom(zipped)
    number = onnx.helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    kind = onnx.helper.make_sequence_type_proto(onnx.helper.make_map_type_proto(TensorProto.INT64, number))
    graph.graph.output[0].CopyFrom(onnx.helper.make_value_info("y", kind))
    graph.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 1))
    onnx.save(graph, model)
    with pytest.raises(RepositoryError, match=r"y is a seq\(map\(.*`pixelserve export` removes skl2onnx's ZipMap"):
        open_session(model)


def test_bfloat16_beside_other_types_is_computed_as_what_it_is(model: Path, graph_writer: Write) -> None:
    half, whole = ("BFLOAT16", ["N"]), ("INT64", ["N"])
    inputs, outputs = {"x": half, "n": whole}, {"wide": ("FLOAT", ["N"]), "m": whole}
    graph_writer(model, inputs, outputs, ("Neg", "n", "m"), ("Cast", "x", "wide"), to=TensorProto.FLOAT)
    values = np.array([1.5, -2], np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    found = open_session(model).run({"x": bits, "n": np.array([3, 4])})
    np.testing.assert_array_equal(found["wide"], values)
    np.testing.assert_array_equal(found["m"], [-3, -4])


def test_strings_beside_bfloat16_are_refused(model: Path, graph_writer: Write) -> None:
    tensors = {"x": ("BFLOAT16", ["N"]), "s": ("STRING", ["N"])}
    graph_writer(model, tensors, {"y": tensors["x"], "t": tensors["s"]}, ("Identity", "x", "y"), ("Identity", "s", "t"))
    with pytest.raises(RepositoryError, match=r"model\.onnx: its inputs hold strings beside bfloat16"):
        open_session(model)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda whole: b"", id="empty"),
        pytest.param(lambda whole: whole[: len(whole) // 2], id="cut in half"),
        pytest.param(lambda whole: b"not a model\n" * 9, id="text"),
        pytest.param(lambda whole: whole.replace(b"Add", b"Adx"), id="an unknown operator"),
    ],
)
def test_a_damaged_file_is_refused_with_what_to_do(
    model: Path, model_writer: Write, spoil: Callable[[bytes], bytes]
) -> None:
    model_writer(model)
    model.write_bytes(spoil(model.read_bytes()))
    with pytest.raises(RepositoryError, match=r"cannot load it \(.+\); .*copy or export it again") as caught:
        open_session(model)
    assert str(caught.value).startswith(f"{model}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(model: Path) -> None:
    with pytest.raises(RepositoryError, match=r"model\.onnx: no such file"):
        open_session(model)


def test_a_folder_in_place_of_the_file_is_refused(model: Path) -> None:
    model.mkdir(parents=True)
    with pytest.raises(RepositoryError, match=r"model\.onnx: no such file"):
        open_session(model)


@pytest.fixture
def _without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])


@pytest.mark.usefixtures("_without_cuda")
def test_cuda_without_its_provider_does_not_start() -> None:
    with pytest.raises(StartupError, match=r"--device cuda: .*no CUDA provider; .*pip install -e .\.\[server-cuda\]"):
        check_runtime("cuda")


@pytest.mark.usefixtures("_without_cuda")
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_without_cuda_the_cpu_serves(device: str, model: Path, model_writer: Write) -> None:
    check_runtime(device)
    assert open_session(model_writer(model), device=device).provider == CPU


def test_cuda_that_falls_back_to_the_cpu_does_not_start(
    model: Path, model_writer: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime takes the CPU without a word where no GPU answers; asked for CUDA, that is an error."""
    whole = ort.InferenceSession
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(ort, "InferenceSession", lambda path, options, **_: whole(path, options, providers=[CPU]))
    model_writer(model)
    with pytest.raises(StartupError, match=r"--device cuda: .*CPUExecutionProvider.*--device auto"):
        open_session(model, device="cuda")
    assert open_session(model, device="auto").provider == CPU


def test_sessions_that_share_the_cores_say_how_many_they_have(model: Path, model_writer: Write) -> None:
    model_writer(model)
    shared = Session(model, SessionOptions(device="cpu", instances=1000)).in_use
    told = Session(model, SessionOptions(device="cpu", intra_op_threads=3)).in_use
    on_the_cpu = InUse(CPU, "onnxruntime", "float32", device_id=None, threads=1, graphs=0, notes=())
    assert shared == on_the_cpu
    assert told == replace(on_the_cpu, threads=3)


def test_warming_raises_what_the_model_raises(model: Path, graph_writer: Write) -> None:
    tensor = ("FLOAT", ["N", 2])
    session = open_session(graph_writer(model, {"x": tensor}, {"y": tensor}, ("MatMul", "x x", "y")))
    session.warm(2, {"x": np.zeros((2, 2), np.float32)})
    with pytest.raises(InvalidRequest, match="its MatMul node reports: MatMul dimension mismatch"):
        session.warm(3, {"x": np.zeros((3, 2), np.float32)})


@pytest.mark.parametrize(
    ("installed", "starts"),
    [
        pytest.param({"onnxruntime"}, True, id="the one for CPUs"),
        pytest.param({"onnxruntime-gpu"}, True, id="the one for GPUs"),
        pytest.param(set(), True, id="neither by that name"),
        pytest.param({"onnxruntime", "onnxruntime-gpu"}, False, id="both"),
    ],
)
def test_both_onnx_runtimes_together_do_not_start(
    installed: set[str], starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name in installed:
            return "1.0"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    if starts:
        check_runtime("cpu")
        return
    with pytest.raises(StartupError, match=r"both installed.*pip uninstall -y onnxruntime onnxruntime-gpu"):
        check_runtime("cpu")
