"""Sessions' execution providers, and which one computes."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import onnxruntime as ort
import pytest

from pixelserve_server.engine.providers import (
    FLAGS,
    PROVIDERS,
    SessionOptions,
    choose,
    choose_threads,
    requires_gpu,
)
from pixelserve_server.engine.providers.cpu import Cpu
from pixelserve_server.engine.providers.cuda import Cuda
from pixelserve_server.engine.providers.gpu import run_config
from pixelserve_server.engine.providers.onnx_runtime import session_config
from pixelserve_server.factories import session_options
from pixelserve_server.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
BOTH = [Cuda.name, Cpu.name]
DEFAULTS = {
    "device_id": "0",
    "arena_extend_strategy": "kSameAsRequested",
    "cudnn_conv_algo_search": "HEURISTIC",
    "use_tf32": "0",
    "enable_cuda_graph": "0",
}
# The protocol's own words, which no execution provider of ours decides.
OF_THE_PROTOCOL = {
    *("server/access/methods.py", "server/api/shared_memory.py", "server/api/rest/shared_memory.py"),
    "server/repository/compatibility.py",
}


def occurrences(word: str) -> Iterator[str]:
    for package in ("server", "pixelserve"):
        for path in (ROOT / package).rglob("*.py"):
            name = str(path.relative_to(ROOT))
            if "_pb2" not in name and name not in OF_THE_PROTOCOL and word in path.read_text().lower():
                yield name


def test_a_provider_is_named_in_its_file_the_list_of_all_and_the_settings() -> None:
    # The list imports it; the settings have its key as a value of --device, and its flags.
    assert set(occurrences("cuda")) == {
        "server/engine/providers/cuda.py",
        "server/engine/providers/choice.py",
        "server/settings.py",
    }


def test_every_provider_is_a_value_of_device() -> None:
    assert set(get_args(Settings.model_fields["device"].annotation)) == {"auto", *(each.device for each in PROVIDERS)}


def test_every_engine_is_a_value_of_engine() -> None:
    assert set(get_args(Settings.model_fields["engine"].annotation)) == {"auto", *(each.engine for each in PROVIDERS)}


def test_every_flag_of_a_provider_is_a_setting_named_after_it() -> None:
    assert set(FLAGS) == {
        name for name in Settings.model_fields if name.startswith(tuple(each.key + "_" for each in PROVIDERS))
    }
    assert all(Settings.model_fields[name].default is False for name in FLAGS)


@pytest.mark.parametrize(
    ("device", "available", "chosen"),
    [
        ("auto", BOTH, Cuda),
        ("cuda", BOTH, Cuda),
        ("gpu", BOTH, Cuda),
        ("cpu", BOTH, Cpu),
        ("auto", [Cpu.name], Cpu),
        ("cuda", [Cpu.name, "Azure"], Cpu),
        ("gpu", [Cpu.name], Cpu),
    ],
)
def test_the_first_provider_that_is_here_and_allowed_is_chosen(
    monkeypatch: pytest.MonkeyPatch, device: str, available: list[str], chosen: type
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: available)
    assert isinstance(choose(SessionOptions(device=device)), chosen)


@pytest.mark.parametrize(
    ("options", "required"),
    [
        (SessionOptions(), False),
        (SessionOptions(device="cpu"), False),
        (SessionOptions(device="cuda"), True),
        (SessionOptions(require_gpu=True), True),
    ],
)
def test_a_gpu_is_required_by_its_flag_or_by_its_provider(options: SessionOptions, required: bool) -> None:
    assert requires_gpu(options) is required


def test_the_gpus_number_is_an_option_of_the_provider() -> None:
    assert Cuda().provider_options(SessionOptions(device_id=3), graphs=False) == DEFAULTS | {"device_id": "3"}


def test_options_of_the_cuda_provider_are_added_and_win_over_ours() -> None:
    config = {"cuda.use_tf32": "1", "cuda.gpu_mem_limit": "7", "session.disable_prepacking": "1"}
    found = Cuda().provider_options(SessionOptions(config=config), graphs=False)
    assert found == DEFAULTS | {"use_tf32": "1", "gpu_mem_limit": "7"}


def test_graphs_are_an_option_of_the_provider() -> None:
    assert Cuda().provider_options(SessionOptions(), graphs=True) == DEFAULTS | {"enable_cuda_graph": "1"}


def test_batches_run_on_arrival_unless_graphs_bind_them_to_a_thread() -> None:
    graphs = SessionOptions(flags={"cuda_graphs": True})
    assert Cuda().may_run_on_arrival(SessionOptions())
    assert not Cuda().may_run_on_arrival(graphs)
    assert Cpu().may_run_on_arrival(graphs)


def test_no_thread_spins_unless_asked() -> None:
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
        device="cuda",
        device_id=2,
        require_gpu=True,
        intra_op_threads=3,
        flags=dict.fromkeys(FLAGS, True),
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
    assert run_config(graphs=False) == {}


def test_a_session_with_graphs_gets_its_graph_with_every_run() -> None:
    # ONNX Runtime would capture graph 0 of whatever memory the first run had, and answer all later runs from it.
    assert run_config(graphs=True) == {"gpu_graph_id": "-1"}
    assert run_config(graphs=True, graph=2) == {"gpu_graph_id": "2"}


def test_the_arena_that_shrinks_is_the_sessions_own() -> None:
    assert run_config(graphs=False, shrink="gpu:2") == {"memory.enable_memory_arena_shrinkage": "gpu:2"}


def test_onnx_runtime_takes_all_entries() -> None:
    session, run = ort.SessionOptions(), ort.RunOptions()
    for key, value in session_config(SessionOptions()).items():
        session.add_session_config_entry(key, value)
        assert session.get_session_config_entry(key) == value
    for key, value in run_config(graphs=True, graph=1, shrink="gpu:0").items():
        run.add_run_config_entry(key, value)
        assert run.get_run_config_entry(key) == value
