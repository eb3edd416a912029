"""Sessions on a GPU: a fake one, which is the CPU with ONNX Runtime's bindings, and a real one."""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from pixelserve_server.engine.providers import SessionOptions, check_runtime
from pixelserve_server.engine.providers.cpu import Cpu
from pixelserve_server.engine.providers.cuda import Cuda
from pixelserve_server.engine.session import Session
from pixelserve_server.errors import RepositoryError, StartupError

CPU, CUDA = Cpu.name, Cuda.name

Write = Callable[..., Path]

GPU = SessionOptions(device="cuda", intra_op_threads=1)
GRAPHS = replace(GPU, flags={"cuda_graphs": True})
GRAPH, SHRINK = "gpu_graph_id", "memory.enable_memory_arena_shrinkage"


def rows_of(count: int, first: float = 1.0) -> dict[str, Any]:
    return {"values": np.arange(first, first + 4 * count, dtype=np.float32).reshape(count, 4)}


def doubled(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"doubled": inputs["values"] * 2}


def assert_doubles(session: Session, count: int) -> None:
    np.testing.assert_equal(session.run(rows_of(count)), doubled(rows_of(count)))


@dataclass
class PretendedGpu:
    """The fake GPU's calls, and its faults."""

    opened: list[dict[str, str]] = field(default_factory=list)
    """CUDA's options of each session that was opened; empty where it was to be on the CPU."""
    runs: list[tuple[str, str]] = field(default_factory=list)
    """Of each run, whether it was bound or not, and its graph's number; nothing where none was said."""
    shrinks: list[str] = field(default_factory=list)
    """What each run that was not bound was told to shrink."""
    refuses_graphs: str = ""
    """What opening a session with graphs raises."""
    refuses: str = ""
    """What opening a session on the GPU raises."""
    leaves_the_gpu: bool = False
    """Whether a session with graphs is opened on the CPU instead."""
    fails_at_graphs: bool = False
    """Whether capturing raises."""
    replays_the_past: bool = False
    """Whether a graph always returns the outputs of its capture."""
    has_memory: bool = True
    """Whether memory can be allocated."""
    captured: set[tuple[int, str]] = field(default_factory=set)
    """Thread and number of the graphs that were captured."""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> PretendedGpu:
    """Makes ONNX Runtime say that it has a GPU, on which it computes as on the CPU."""
    state, whole = PretendedGpu(), ort.InferenceSession

    def entry(options: Any, key: str) -> str:
        try:
            return "" if options is None else str(options.get_run_config_entry(key))
        except RuntimeError:
            return ""

    class Pretended(whole):  # type: ignore[misc, valid-type]
        def __init__(self, path: Path, options: Any, providers: list[Any], **fallback: int) -> None:
            name, chosen = providers[0] if providers != [CPU] else (CPU, {})
            state.opened.append(chosen)
            self.on_gpu = name == CUDA
            if self.on_gpu and state.refuses:
                if fallback.get("enable_fallback", 1) == 0:
                    raise RuntimeError(state.refuses)
                self.on_gpu = False
            if self.on_gpu and chosen["enable_cuda_graph"] == "1":
                if state.refuses_graphs:
                    # Not one of those over which ONNX Runtime goes to the CPU.
                    raise Fail(state.refuses_graphs)
                self.on_gpu = not state.leaves_the_gpu
            super().__init__(path, options, [CPU], **fallback)

        def get_providers(self) -> list[str]:
            return [CUDA, CPU] if self.on_gpu else [CPU]

        def run(self, names: Any, inputs: Any, options: Any = None) -> Any:
            state.runs.append(("unbound", entry(options, GRAPH)))
            state.shrinks.append(entry(options, SHRINK))
            # The CPU has no arena of a GPU to shrink, and says so.
            return super().run(names, inputs)

        def run_with_iobinding(self, binding: Any, options: Any = None) -> None:
            graph = entry(options, GRAPH)
            state.runs.append(("bound", graph))
            if graph.isdigit():
                key = (threading.get_ident(), graph)
                if state.fails_at_graphs:
                    raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing\nand more")
                if key in state.captured and state.replays_the_past:
                    return
                state.captured.add(key)
            super().run_with_iobinding(binding, options)

    allocate = ort.OrtValue.ortvalue_from_shape_and_type

    def on_the_cpu(shape: Any, kind: Any, device: str = "cpu", device_id: int = 0) -> Any:
        assert device == "cuda"
        if not state.has_memory:
            raise RuntimeError("Failed to allocate memory")
        return allocate(shape, kind, "cpu", 0)

    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(ort, "InferenceSession", Pretended)
    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_shape_and_type", on_the_cpu)
    return state


@pytest.fixture
def model(tmp_path: Path, model_writer: Write) -> Path:
    """A model that doubles rows of four numbers."""
    return model_writer(tmp_path / "m" / "1" / "model.onnx")


def test_a_batch_that_was_announced_has_memory_of_its_own(gpu: PretendedGpu, model: Path) -> None:
    session = Session(model, GPU)
    session.warm(2, rows_of(2))
    gpu.runs.clear()
    assert_doubles(session, 2)
    assert_doubles(session, 3)
    assert gpu.runs == [("bound", ""), ("unbound", "")]
    assert (session.in_use.provider, session.in_use.device_id, session.in_use.graphs) == (CUDA, 0, 0)
    assert session.notes == ()


def test_an_answer_outlives_the_next_run_in_the_same_memory(gpu: PretendedGpu, model: Path) -> None:
    session = Session(model, GPU)
    session.warm(2, rows_of(2))
    first = session.run(rows_of(2))
    session.run(rows_of(2, first=100))
    np.testing.assert_equal(first, doubled(rows_of(2)))


def test_a_batch_of_another_type_does_not_get_into_memory_that_was_made_for_one(gpu: PretendedGpu, model: Path) -> None:
    # ONNX Runtime would copy the bits as they are.
    session = Session(model, GPU)
    session.warm(2, rows_of(2))
    with pytest.raises(Exception, match="Unexpected input data type"):
        session.run({"values": rows_of(2)["values"].astype(np.int32)})
    with pytest.raises(Exception, match="Required inputs"):
        session.run({})


def test_a_batch_that_is_not_contiguous_is_computed_right(gpu: PretendedGpu, model: Path) -> None:
    session = Session(model, GPU)
    session.warm(2, rows_of(2))
    strided = np.arange(16, dtype=np.float32).reshape(2, 8)[:, ::2]
    np.testing.assert_equal(session.run({"values": strided}), {"doubled": strided * 2})


def test_page_locked_memory_is_read_from_where_there_is_some(
    gpu: PretendedGpu, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Device:
        ep_name = CUDA

        def memory_info(self, kind: Any) -> str:
            assert kind == ort.OrtDeviceMemoryType.HOST_ACCESSIBLE
            return "page-locked"

    staged = []
    on_gpu = ort.OrtValue.ortvalue_from_shape_and_type

    def allocate(shape: Any, kind: Any, device: str = "cuda", device_id: int = 0, memory_info: Any = None) -> Any:
        value = on_gpu(shape, kind, "cuda")
        if memory_info:
            staged.append(value)
        return value

    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_shape_and_type", allocate)
    monkeypatch.setattr(ort, "get_ep_devices", lambda: [Device()])
    session = Session(model, GPU)
    session.warm(2, rows_of(2))
    assert_doubles(session, 2)
    (buffer,) = staged
    np.testing.assert_equal(buffer.numpy(), rows_of(2)["values"])


def test_where_memory_is_short_batches_are_computed_without_their_own(gpu: PretendedGpu, model: Path) -> None:
    gpu.has_memory = False
    session = Session(model, GRAPHS)
    session.warm(2, rows_of(2))
    assert_doubles(session, 2)
    assert gpu.runs[-1] == ("unbound", "-1")
    assert session.notes == ("batches of 2 rows have no memory of their own on the GPU: Failed to allocate memory",)


def test_a_free_dimension_in_the_outputs_forbids_memory_of_its_own(
    gpu: PretendedGpu, tmp_path: Path, graph_writer: Write
) -> None:
    path = graph_writer(
        tmp_path / "m" / "1" / "model.onnx",
        {"x": ("FLOAT", ["N", 4])},
        {"y": ("INT64", [2, "found"])},
        ("NonZero", "x", "y"),
    )
    session = Session(path, GRAPHS)
    session.warm(2, {"x": rows_of(2)["values"]})
    assert gpu.runs == [("unbound", "-1")]
    assert session.notes == ("CUDA graphs are not used: y has free dimensions beside the batch's",)


def test_a_free_dimension_in_the_inputs_leaves_nothing_to_announce(
    gpu: PretendedGpu, tmp_path: Path, graph_writer: Write
) -> None:
    tensor = ("FLOAT", ["N", "width"])
    path = graph_writer(tmp_path / "m" / "1" / "model.onnx", {"x": tensor}, {"y": tensor}, ("Identity", "x", "y"))
    Session(path, GPU).warm(2, {"x": rows_of(2)["values"]})
    assert gpu.runs == [("unbound", "")]


def test_a_model_without_a_batch_dimension_is_announced_as_it_is(
    gpu: PretendedGpu, tmp_path: Path, model_writer: Write
) -> None:
    session = Session(model_writer(tmp_path / "f" / "1" / "model.onnx", rows=3), GRAPHS)
    session.warm(0, rows_of(3))
    assert session.in_use.graphs == 1
    assert_doubles(session, 3)


@pytest.mark.parametrize(
    ("flags", "after_announced", "after_others"),
    [({}, "", ""), ({"cuda_arena_shrink": True}, "", "gpu:1")],
)
def test_the_arena_shrinks_after_unannounced_batches(
    gpu: PretendedGpu, model: Path, flags: dict[str, bool], after_announced: str, after_others: str
) -> None:
    session = Session(model, replace(GPU, device_id=1, flags=flags))
    session.warm(2, rows_of(2))
    assert set(gpu.shrinks) == {after_announced}
    session.run(rows_of(3))
    assert gpu.shrinks[-1] == after_others


def test_announced_batches_are_replayed_as_graphs_each_with_its_own_number(gpu: PretendedGpu, model: Path) -> None:
    session = Session(model, GRAPHS)
    session.warm(1, rows_of(1))
    session.warm(2, rows_of(2))
    gpu.runs.clear()
    for rows in (1, 2, 3):
        assert_doubles(session, rows)
    assert gpu.runs == [("bound", "1"), ("bound", "2"), ("unbound", "-1")]
    assert session.in_use.graphs == 2
    assert session.notes == ()


def test_no_run_may_capture_but_those_of_announced_batches(gpu: PretendedGpu, model: Path) -> None:
    session = Session(model, GRAPHS)
    assert_doubles(session, 2)
    assert gpu.runs == [("unbound", "-1")]
    assert gpu.captured == set()


def test_announcing_twice_captures_once(gpu: PretendedGpu, model: Path) -> None:
    session = Session(model, GRAPHS)
    session.warm(2, rows_of(2))
    gpu.runs.clear()
    session.warm(2, rows_of(2))
    assert gpu.runs == [("bound", "1")]


def test_a_thread_replays_only_what_it_captured(gpu: PretendedGpu, model: Path) -> None:
    session = Session(model, GRAPHS)
    session.warm(2, rows_of(2))
    seen: list[Any] = []

    def elsewhere() -> None:
        seen.append(session.run(rows_of(2)))
        seen.append((gpu.runs[-1], session.in_use.graphs))
        session.warm(2, rows_of(2))
        seen.append((gpu.runs[-1], session.in_use.graphs))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    np.testing.assert_equal(seen[0], doubled(rows_of(2)))
    assert seen[1:] == [(("bound", "-1"), 0), (("bound", "1"), 1)]


@pytest.mark.parametrize(
    ("misbehave", "reason"),
    [
        pytest.param({"fails_at_graphs": True}, r"2 rows: CUDA failure 900: .*capturing$", id="capture fails"),
        pytest.param({"replays_the_past": True}, "2 rows: the graph's outputs differ from the model's", id="stale"),
    ],
)
def test_a_capture_that_goes_wrong_costs_the_graphs_only(
    gpu: PretendedGpu, model: Path, misbehave: dict[str, bool], reason: str
) -> None:
    gpu.__dict__.update(misbehave)
    session = Session(model, replace(GRAPHS, flags={"cuda_graphs": True, "cuda_arena_shrink": True}))
    session.warm(2, rows_of(2))
    session.warm(4, rows_of(4))
    assert [chosen["enable_cuda_graph"] for chosen in gpu.opened] == ["1", "0"]
    gpu.runs.clear()
    assert_doubles(session, 2)
    assert_doubles(session, 4)
    assert gpu.runs == [("bound", ""), ("bound", "")]
    assert session.in_use.graphs == 0
    (note,) = session.notes
    assert note.startswith("CUDA graphs are off: 2 rows: ")
    assert re.search(reason, note)


def test_a_model_that_cannot_be_captured_is_opened_without_graphs(gpu: PretendedGpu, model: Path) -> None:
    gpu.refuses_graphs = "the model has control flow nodes\nat length"
    session = Session(model, GRAPHS)
    session.warm(2, rows_of(2))
    assert_doubles(session, 2)
    assert [chosen["enable_cuda_graph"] for chosen in gpu.opened] == ["1", "0"]
    assert session.notes == (
        "CUDA graphs are off: ONNX Runtime does not capture this model (the model has control flow nodes)",
    )


def test_a_session_that_would_leave_the_gpu_for_its_graphs_stays_without(gpu: PretendedGpu, model: Path) -> None:
    gpu.leaves_the_gpu = True
    session = Session(model, GRAPHS)
    assert session.provider == CUDA
    assert session.notes == ("CUDA graphs are off: ONNX Runtime does not capture this model (it would leave the GPU)",)


def test_a_damaged_model_is_refused_with_and_without_graphs(gpu: PretendedGpu, model: Path) -> None:
    model.write_bytes(b"")
    with pytest.raises(RepositoryError, match="cannot load it"):
        Session(model, GRAPHS)


def test_an_arena_that_graphs_use_does_not_shrink_and_says_so(gpu: PretendedGpu, model: Path) -> None:
    session = Session(model, replace(GPU, flags={"cuda_graphs": True, "cuda_arena_shrink": True}))
    session.warm(2, rows_of(2))
    session.run(rows_of(3))
    assert set(gpu.shrinks) == {""}
    assert session.notes == (
        "the GPU's arena does not shrink: CUDA graphs use the memory that it held when they were captured",
    )


@pytest.mark.usefixtures("gpu")
def test_a_model_that_is_to_be_on_the_cpu_does_not_start_where_a_gpu_is_required(model: Path) -> None:
    check_runtime("auto", require_gpu=True)
    assert Session(model, replace(GPU, require_gpu=True)).provider == CUDA
    with pytest.raises(StartupError, match=r"--require-gpu: .*model\.onnx is to be .* CPU; .*KIND_GPU.*--no-require"):
        Session(model, SessionOptions(device="cpu", require_gpu=True))


def test_a_required_gpu_that_does_not_answer_does_not_start(
    gpu: PretendedGpu, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort.InferenceSession, "get_providers", lambda self: [CPU])
    with pytest.raises(StartupError, match=r"--require-gpu: .*was loaded on CPUExec.*check nvidia-smi.*--no-require"):
        Session(model, SessionOptions(require_gpu=True))


def test_a_gpu_is_required_of_an_onnx_runtime_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])
    with pytest.raises(StartupError, match=r"--require-gpu: .*no CUDA provider; .*server-cuda.*--no-require-gpu"):
        check_runtime("auto", require_gpu=True)
    with pytest.raises(StartupError, match="--require-gpu and --device cpu contradict each other"):
        check_runtime("cpu", require_gpu=True)


def test_graphs_on_the_cpu_are_off_and_say_so(model: Path) -> None:
    session = Session(model, SessionOptions(device="cpu", flags={"cuda_graphs": True}))
    session.warm(2, rows_of(2))
    assert_doubles(session, 2)
    assert session.notes == ("CUDA graphs are off: the model is computed on the CPU",)
    assert (session.in_use.provider, session.in_use.device_id, session.in_use.graphs) == (CPU, None, 0)


def test_an_option_that_onnx_runtime_does_not_know_keeps_the_server_from_starting(
    gpu: PretendedGpu, model: Path
) -> None:
    gpu.refuses = 'provider_options_utils.h:151 Parse Unknown provider option: "gpu_men_limit".'
    with pytest.raises(StartupError, match=r"--session-option: .*Unknown provider option: \"gpu_men_limit\""):
        Session(model, replace(SessionOptions(), config={"cuda.gpu_men_limit": "1"}))
    assert gpu.opened[0]["gpu_men_limit"] == "1"


def test_a_gpu_that_does_not_answer_leaves_the_model_to_the_cpu_unless_it_is_asked_for(
    gpu: PretendedGpu, model: Path
) -> None:
    gpu.refuses = "CUDA failure 100: no CUDA-capable device is detected"
    session = Session(model, SessionOptions(config={"cuda.use_tf32": "1"}))
    assert_doubles(session, 2)
    assert session.notes == ("--session-option cuda.* is not used: the model is computed by ONNX Runtime on the CPU",)
    with pytest.raises(StartupError, match=r"--device cuda: .*was loaded on CPU"):
        Session(model, GPU)


@pytest.mark.gpu
def test_a_real_gpu_does_not_know_every_option(model: Path) -> None:
    with pytest.raises(StartupError, match=r"--session-option: .*gpu_men_limit"):
        Session(model, replace(GPU, config={"cuda.gpu_men_limit": "1"}))


@pytest.mark.gpu
@pytest.mark.slow
def test_a_real_gpu_gives_what_the_cpu_gives_with_and_without_graphs(root: Path) -> None:
    path = root / "models" / "mnist-cnn" / "1" / "model.onnx"
    pixels = np.random.default_rng(1).integers(0, 256, (8, 28, 28, 1), dtype=np.uint8)
    expected = Session(path, SessionOptions(device="cpu")).run({"image": pixels})
    for options in (GPU, GRAPHS):
        session = Session(path, options)
        session.warm(8, rows_of(8))
        session.warm(4, rows_of(4))
        assert session.in_use.graphs == (2 if options.flags else 0), session.notes
        for rows in (8, 4, 3, 8):
            got = session.run({"image": pixels[:rows]})
            for name, array in got.items():
                np.testing.assert_allclose(array, expected[name][:rows], atol=1e-4)


@pytest.mark.gpu
def test_a_real_gpu_is_enough_where_one_is_required(model: Path) -> None:
    check_runtime("cuda", require_gpu=True)
    session = Session(
        model,
        replace(GPU, require_gpu=True, flags={"cuda_arena_shrink": True}, config={"cuda.gpu_mem_limit": str(2**28)}),
    )
    session.warm(2, rows_of(2))
    assert_doubles(session, 2)
    assert_doubles(session, 5)
