"""What is asked of a session, in ONNX Runtime's words."""

from pathlib import Path

import onnxruntime as ort
import pytest

from pixelserve_server.engine.providers import (
    CPU,
    CUDA,
    CudaOptions,
    Device,
    SessionOptions,
    choose_threads,
    provider_list,
    run_config,
    session_config,
)
from pixelserve_server.parts import session_options
from pixelserve_server.settings import Settings

BOTH = (CUDA, CPU)
DEFAULTS = {
    "device_id": "0",
    "arena_extend_strategy": "kSameAsRequested",
    "cudnn_conv_algo_search": "HEURISTIC",
    "use_tf32": "0",
    "enable_cuda_graph": "0",
}


def cuda_options(options: SessionOptions, *, graphs: bool = False) -> dict[str, str]:
    (name, chosen), last = provider_list(options, BOTH, graphs=graphs)
    assert (name, last) == (CUDA, (CPU, {}))
    return chosen


@pytest.mark.parametrize(
    ("device", "available"), [("cpu", BOTH), ("cpu", (CPU,)), ("auto", (CPU,)), ("cuda", (CPU, "Azure"))]
)
def test_without_cuda_only_the_cpu_is_tried(device: Device, available: tuple[str, ...]) -> None:
    assert provider_list(SessionOptions(device=device), available, graphs=True) == [(CPU, {})]


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_cuda_comes_first_as_nobody_asked_otherwise(device: Device) -> None:
    assert cuda_options(SessionOptions(device=device)) == DEFAULTS


def test_the_gpus_number_is_an_option_of_the_provider() -> None:
    assert cuda_options(SessionOptions(device_id=3)) == DEFAULTS | {"device_id": "3"}


def test_options_of_the_cuda_provider_are_added_and_win_over_ours() -> None:
    config = {"cuda.use_tf32": "1", "cuda.gpu_mem_limit": "7", "session.disable_prepacking": "1"}
    assert cuda_options(SessionOptions(config=config)) == DEFAULTS | {"use_tf32": "1", "gpu_mem_limit": "7"}


def test_graphs_are_an_option_of_the_provider() -> None:
    assert cuda_options(SessionOptions(), graphs=True) == DEFAULTS | {"enable_cuda_graph": "1"}


def test_nobody_spins_unless_asked() -> None:
    spinning = "session.intra_op.allow_spinning"
    assert session_config(SessionOptions()) == {spinning: "0"}
    assert session_config(SessionOptions(config={spinning: "1", "cuda.use_tf32": "1"})) == {spinning: "1"}


@pytest.mark.parametrize(
    ("asked", "instances", "cores", "threads"),
    [(0, 1, 8, 8), (0, 3, 8, 2), (0, 9, 8, 1), (0, 1, 1, 1), (5, 1, 8, 5), (5, 4, 2, 5)],
)
def test_sessions_share_the_cores_unless_told_their_threads(
    asked: int, instances: int, cores: int, threads: int
) -> None:
    assert choose_threads(SessionOptions(intra_op_threads=asked, instances=instances), cores) == threads


def test_every_setting_of_sessions_reaches_them() -> None:
    asked = SessionOptions(
        "cuda",
        device_id=2,
        require_gpu=True,
        intra_op_threads=3,
        cuda=CudaOptions(arena_shrink=True, graphs=True),
        config={"session.disable_prepacking": "1", "cuda.use_tf32": "1=1"},
    )
    settings = Settings(
        model_repository=Path("models"),
        **{name: getattr(asked, name) for name in ("device", "device_id", "require_gpu", "intra_op_threads")},
        cuda_arena_shrink=True,
        cuda_graphs=True,
        session_option=("session.disable_prepacking=1", "cuda.use_tf32=1=1"),
    )
    assert session_options(settings) == asked
    assert session_options(Settings(model_repository=Path("models"))) == SessionOptions()


def test_a_run_without_graphs_says_nothing() -> None:
    assert run_config(SessionOptions(), graphs=False) == {}


def test_a_session_with_graphs_is_told_at_every_run_which_one() -> None:
    # ONNX Runtime would capture graph 0 of whatever memory the first run had, and answer all later runs from it.
    assert run_config(SessionOptions(), graphs=True) == {"gpu_graph_id": "-1"}
    assert run_config(SessionOptions(), graphs=True, graph=2) == {"gpu_graph_id": "2"}


def test_the_arena_that_shrinks_is_the_sessions_own() -> None:
    entries = run_config(SessionOptions(device_id=2), graphs=False, shrink=True)
    assert entries == {"memory.enable_memory_arena_shrinkage": "gpu:2"}


def test_onnx_runtime_takes_all_entries() -> None:
    session, run = ort.SessionOptions(), ort.RunOptions()
    for key, value in session_config(SessionOptions()).items():
        session.add_session_config_entry(key, value)
        assert session.get_session_config_entry(key) == value
    for key, value in run_config(SessionOptions(), graphs=True, graph=1, shrink=True).items():
        run.add_run_config_entry(key, value)
        assert run.get_run_config_entry(key) == value
