"""A version is verified before it serves."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.card import Card, Parity, sha256_of
from pixelserve.golden import Golden, write_golden
from pixelserve_server.engine.measuring import WarmupBudget
from pixelserve_server.engine.providers import SessionOptions
from pixelserve_server.engine.providers.cpu import Cpu
from pixelserve_server.engine.providers.cuda import Cuda
from pixelserve_server.engine.request import Answer, Request
from pixelserve_server.engine.session import Session
from pixelserve_server.errors import RepositoryError, StartupError
from pixelserve_server.repository import loader as loader_module
from pixelserve_server.repository import opening
from pixelserve_server.repository.layout import ModelFolder
from pixelserve_server.repository.loaded import LoadedVersion
from pixelserve_server.repository.opening import Opener
from pixelserve_server.repository.progress import Progress
from pixelserve_server.repository.scheduling import Placement
from pixelserve_server.repository.warming import choose_buckets

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def folder(tmp_path: Path, model_writer: Callable[..., Path]) -> ModelFolder:
    """A model with one version that doubles, without a card."""
    model_writer(tmp_path / "doubler" / "1" / "model.onnx")
    return ModelFolder(tmp_path / "doubler")


def write_card(folder: ModelFolder, **changes: Any) -> None:
    version = folder.version_path(1)
    parity = [Parity(precision="float32", provider="CPUExecutionProvider", tolerance=0.25)]
    card = Card(
        name="doubler",
        task="tabular",
        sha256=changes.pop("sha256", sha256_of(version / "model.onnx")),
        created="2026-01-02T03:04:05Z",
        parity=parity,
    )
    card.write(version / "card.json")


def write_golden_samples(folder: ModelFolder, *, name: str = "values", off_by: float = 0.0) -> None:
    golden = Golden({name: VALUES}, {"doubled": VALUES * 2 + np.float32(off_by)})
    write_golden(folder.version_path(1) / "golden.npz", golden)


def test_a_loaded_version_takes_requests(folder: ModelFolder, load: Callable[..., LoadedVersion]) -> None:
    loaded = load(folder)
    answers: list[Any] = []
    loaded.batcher.submit(Request({"values": VALUES}, 3, answers.append))
    loaded.batcher.drain()
    (answer,) = answers
    assert isinstance(answer, Answer)
    np.testing.assert_array_equal(answer.outputs["doubled"], VALUES * 2)
    assert (loaded.name, loaded.version, loaded.provider) == ("doubler", 1, "CPUExecutionProvider")


def test_a_version_without_a_card_is_unverified(folder: ModelFolder, load: Callable[..., LoadedVersion]) -> None:
    evidence = load(folder).evidence
    assert (evidence.card, evidence.verified, evidence.summary) == (None, False, "unverified: no card.json")


def test_a_version_without_a_card_is_refused_where_one_is_required(
    folder: ModelFolder, load: Callable[..., LoadedVersion]
) -> None:
    with pytest.raises(RepositoryError, match=r"1: no card\.json, and --require-card is on; .*`pixelserve export`"):
        load(folder, require_card=True)


def test_a_version_with_a_card_and_no_golden_samples_is_unverified(
    folder: ModelFolder, load: Callable[..., LoadedVersion]
) -> None:
    write_card(folder)
    evidence = load(folder, require_card=True).evidence
    assert evidence.card is not None
    assert not evidence.verified
    assert "no golden.npz" in evidence.summary


@pytest.mark.parametrize(
    ("config", "rows"),
    [
        pytest.param(None, "N", id="all samples in one run"),
        pytest.param("max_batch_size: 2", "N", id="more samples than fit a run"),
        pytest.param("max_batch_size: 0", "N", id="no batch dimension: a sample at a time"),
    ],
)
def test_a_version_that_reproduces_its_golden_samples_is_verified(
    folder: ModelFolder, load: Callable[..., LoadedVersion], config: str | None, rows: str
) -> None:
    if config is not None:
        folder.config_file.write_text(config)
    write_card(folder)
    if config == "max_batch_size: 0":
        # Each sample is a whole input then, of the model's own rank.
        samples = VALUES[:, None, :]
        write_golden(folder.version_path(1) / "golden.npz", Golden({"values": samples}, {"doubled": samples * 2}))
    else:
        write_golden_samples(folder)
    evidence = load(folder).evidence
    assert evidence.verified
    assert evidence.summary.startswith("verified: 3 golden samples reproduced, largest difference 0")


def test_the_cards_tolerance_for_the_provider_decides(folder: ModelFolder, load: Callable[..., LoadedVersion]) -> None:
    write_card(folder)
    write_golden_samples(folder, off_by=0.25)
    assert load(folder).evidence.verified
    write_golden_samples(folder, off_by=0.5)
    with pytest.raises(RepositoryError, match=r"differ by up to 0\.5, the tolerance is 0\.25"):
        load(folder)


@pytest.mark.parametrize(
    ("spoil", "file", "said"),
    [
        pytest.param(
            lambda f: write_card(f, sha256="00" * 32),
            "model.onnx",
            r"SHA-256 is .*the file is damaged",
            id="other hash",
        ),
        pytest.param(
            lambda f: (f.version_path(1) / "card.json").write_text("{"), "card.json", "the whole file", id="no card"
        ),
        pytest.param(
            lambda f: (f.version_path(1) / "golden.npz").write_bytes(b"PK"),
            "golden.npz",
            "cannot be read",
            id="damaged golden samples",
        ),
        pytest.param(
            lambda f: write_golden_samples(f, name="image"),
            "golden.npz",
            r"golden inputs are \['image'\], the model's are \['values'\]",
            id="golden samples of another model",
        ),
        pytest.param(
            lambda f: write_golden(
                f.version_path(1) / "golden.npz", Golden({"values": VALUES[:, :2]}, {"doubled": VALUES})
            ),
            "golden.npz",
            "the model cannot run its golden inputs",
            id="golden inputs of another shape",
        ),
        pytest.param(
            lambda f: write_golden(
                f.version_path(1) / "golden.npz", Golden({"values": VALUES}, {"probabilities": VALUES})
            ),
            "golden.npz",
            "output probabilities: .*no such output",
            id="golden outputs of another model",
        ),
    ],
)
def test_evidence_that_does_not_hold_keeps_a_version_from_serving(
    folder: ModelFolder,
    load: Callable[..., LoadedVersion],
    spoil: Callable[[ModelFolder], object],
    file: str,
    said: str,
) -> None:
    write_card(folder)
    write_golden_samples(folder)
    spoil(folder)
    with pytest.raises(RepositoryError, match=said) as caught:
        load(folder)
    assert str(caught.value).startswith(f"{folder.version_path(1)}/{file}: ")


def test_a_model_that_computes_no_row_alone_is_served_unmerged(
    tmp_path: Path, graph_writer: Callable[..., Path], load: Callable[..., LoadedVersion]
) -> None:
    """Its graph is valid and takes pairs of rows, whatever it says."""
    graph_writer(
        tmp_path / "liar" / "1" / "model.onnx",
        {"x": ("FLOAT", ["N", 4])},
        {"y": ("FLOAT", ["N", 2])},
        ("Identity", "x", "same"),
        ("Split", "same", "y z"),
        axis=0,
    )
    loaded = load(ModelFolder(tmp_path / "liar"))
    assert loaded.row_state == "unproven"
    assert "its Split node reports: Input cannot be split evenly" in loaded.unmerged


@pytest.mark.parametrize(
    ("placement", "device", "device_id"),
    [
        pytest.param(Placement("auto"), "auto", 3, id="the settings' device"),
        pytest.param(Placement("gpu"), "gpu", 3, id="the settings' GPU"),
        pytest.param(Placement("gpu", 0), "gpu", 0, id="another GPU"),
        pytest.param(Placement("cpu"), "cpu", 3, id="the CPU"),
    ],
)
def test_a_session_is_opened_where_its_instance_group_says(
    monkeypatch: pytest.MonkeyPatch, placement: Placement, device: str, device_id: int
) -> None:
    opened: list[SessionOptions] = []
    monkeypatch.setattr(opening, "Session", lambda model, options, reshapes: opened.append(options))
    opener = Opener(
        ModelFolder(Path("digits")), Path("model.onnx"), SessionOptions(device_id=3), {}, (placement, placement)
    )
    opener.open(placement)
    (options,) = opened
    assert (options.device, options.device_id, options.instances) == (device, device_id, 2)


@pytest.mark.parametrize(
    ("choice", "max_batch_size", "provider", "buckets"),
    [
        pytest.param("auto", 6, Cuda.name, (1, 2, 4, 6), id="auto on CUDA: powers of two, and the largest"),
        pytest.param("auto", 6, Cpu.name, (), id="auto on the CPU: none"),
        pytest.param("powers", 8, Cpu.name, (1, 2, 4, 8), id="powers anywhere"),
        pytest.param("none", 8, Cuda.name, (), id="none"),
        pytest.param("8,1,3", 8, Cpu.name, (1, 3, 8), id="sizes in any order"),
        pytest.param("3,3", 8, Cpu.name, (3, 8), id="the largest is always there"),
        pytest.param("4,16,64", 8, Cpu.name, (4, 8), id="and nothing beyond it"),
        pytest.param("64", 1, Cpu.name, (1,), id="a batch of one"),
        pytest.param("powers", 0, Cuda.name, (), id="powers without a batch dimension"),
        pytest.param("1,2", 0, Cpu.name, (), id="sizes without a batch dimension"),
    ],
)
def test_batches_are_padded_to(choice: str, max_batch_size: int, provider: str, buckets: tuple[int, ...]) -> None:
    assert choose_buckets(choice, max_batch_size, provider) == buckets


@pytest.mark.parametrize(
    ("buckets", "sizes"),
    [
        pytest.param("auto", (1, 2, 4, 8, 16, 32, 64), id="without buckets, powers of two"),
        pytest.param("5", (5, 64), id="buckets"),
    ],
)
def test_sizes_are_measured_from_the_smallest_upwards(
    folder: ModelFolder, load: Callable[..., LoadedVersion], buckets: str, sizes: tuple[int, ...]
) -> None:
    budget = WarmupBudget(seconds=3600, memory_bytes=1 << 50)
    curve = load(folder, tuning=loader_module.Tuning(buckets=buckets, warmup=budget)).batcher.curve
    assert curve.sizes == sizes[: len(curve.sizes)]
    assert len(curve.sizes) >= 2
    assert all(time_ns > 0 for time_ns in curve.times_ns)


def test_sizes_that_were_not_measured_are_not_merged_and_a_request_may_have_them(
    folder: ModelFolder, load: Callable[..., LoadedVersion]
) -> None:
    loaded = load(folder, tuning=loader_module.Tuning(warmup=WarmupBudget(seconds=0, memory_bytes=0)))
    assert (loaded.curve.sizes, loaded.curve.stop, loaded.batch_limit) == ((1,), "time", 1)
    answers: list[Any] = []
    loaded.batcher.submit(Request({"values": np.ones((64, 4), np.float32)}, 64, answers.append))
    loaded.batcher.drain()
    np.testing.assert_array_equal(answers[0].outputs["doubled"], np.full((64, 4), 2, np.float32))


def test_sessions_of_a_version_are_measured_once(folder: ModelFolder, load: Callable[..., LoadedVersion]) -> None:
    folder.config_file.write_text("max_batch_size: 8\ninstance_group { count: 3 }")
    loaded = load(folder)
    assert loaded.curve.sizes
    answers: list[Any] = []
    for _ in range(6):
        loaded.batcher.submit(Request({"values": VALUES}, 3, answers.append))
    loaded.batcher.drain()
    assert len(answers) == 6


def test_a_load_that_takes_long_says_what_it_is_doing(
    folder: ModelFolder, load: Callable[..., LoadedVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    opening_reported = threading.Event()
    reports: list[Any] = []

    def open_slowly(model: Path, options: SessionOptions, reshapes: Any) -> Session:
        assert opening_reported.wait(60)
        return Session(model, options, reshapes)

    def on_progress(*report: Any) -> None:
        reports.append(report)
        if report[2] == "opening the model":
            opening_reported.set()

    monkeypatch.setattr(loader_module, "Progress", partial(Progress, first_s=0.001, again_s=0.001))
    monkeypatch.setattr(opening, "Session", open_slowly)
    load(folder, on_progress=on_progress)
    assert {report[:2] for report in reports} == {("doubler", 1)}
    # The first report may come before the model is opened; none comes without its step.
    assert all(step and elapsed_s > 0 for _, _, step, elapsed_s in reports)


def test_a_model_without_a_batch_dimension_is_measured_as_it_is(
    folder: ModelFolder, load: Callable[..., LoadedVersion], model_writer: Callable[..., Path]
) -> None:
    model_writer(folder.version_path(1) / "model.onnx", rows=3)
    folder.config_file.write_text("max_batch_size: 0")
    assert load(folder).batcher.curve.sizes == (1,)


@pytest.mark.parametrize("asked", [{}, {"device": "cuda"}, {"require_gpu": True}])
def test_a_missing_gpu_is_reported(
    folder: ModelFolder, load: Callable[..., LoadedVersion], monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    """The model's own wish is its repository's matter; the settings' keeps the server from starting."""

    def refuse(model: Path, options: SessionOptions, reshapes: Any) -> None:
        assert options.device == asked.get("device", "gpu")
        raise StartupError("no GPU answers")

    monkeypatch.setattr(opening, "Session", refuse)
    folder.config_file.write_text("max_batch_size: 8\ninstance_group {\n  kind: KIND_GPU\n}\n")
    with pytest.raises(StartupError if asked else RepositoryError) as caught:
        load(folder, session_options=SessionOptions(**asked))
    if not asked:
        assert isinstance(caught.value, RepositoryError)
        assert (caught.value.path, caught.value.line) == (folder.config_file, 3)
        assert caught.value.write == "kind: KIND_AUTO"
