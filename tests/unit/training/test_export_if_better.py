"""`pixelserve export --if-better`: a version replaces the serving one only if it predicts better."""

import json
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pixelserve_training.exporting import better, publish
from pixelserve_training.exporting.export import Exported, Target, export_file

Command = Callable[..., Any]
CLASSES = 3
PIXELS = 120


def write_classifier(path: Path, *, noise: float) -> Path:
    """Writes a linear classifier that knows the true weights, but for noise."""
    random = np.random.default_rng(5)
    weights = random.normal(size=(PIXELS, CLASSES)) + noise * np.random.default_rng(6).normal(size=(PIXELS, CLASSES))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["logits"]), helper.make_node("Softmax", ["logits"], ["scores"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", PIXELS])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", CLASSES])],
        [onnx.numpy_helper.from_array(weights.astype(np.float32), "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\nowl\n")
    return path


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    inputs = np.random.default_rng(7).normal(size=(200, PIXELS)).astype(np.float32)
    truth = inputs @ np.random.default_rng(5).normal(size=(PIXELS, CLASSES))
    np.savez(tmp_path / "samples.npz", x=inputs, y=truth.argmax(axis=1))
    return tmp_path / "samples.npz"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def export(tmp_path: Path, models: Path, labels: Path, samples: Path) -> Callable[..., Exported]:
    """Exports a classifier of so much noise as `pets`, if it is better."""
    writing = threading.Lock()

    def run(noise: float, **given: Any) -> Exported:
        source = tmp_path / f"{noise}.onnx"
        with writing:
            if not source.exists():
                # Another thread may be reading it from then on.
                write_classifier(source, noise=noise)
        target = replace(Target(models, "pets", if_better=True), **given)
        return export_file(source, target, labels=labels, samples=samples, pixel_scale=None)

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_first_version_is_published_then_a_better_one_and_no_worse_one(
    export: Callable[..., Exported], models: Path
) -> None:
    first = export(1.0)
    assert first.decision is not None
    assert first.decision.reason == "the model has no version yet"
    better = export(0.0)
    assert (better.published, better.slot.version) == (True, 2)
    worse = export(0.5)
    assert not worse.published
    assert worse.decision is not None
    assert worse.decision.serving == 2
    assert worse.decision.candidate_accuracy is not None
    assert worse.decision.candidate_accuracy < 1.0 == worse.decision.serving_accuracy
    assert names(models / "pets") == ["1", "2", "config.pbtxt", "labels.txt"]


def test_the_same_model_again_is_not_published(export: Callable[..., Exported], models: Path) -> None:
    export(0.0)
    assert not export(0.0).published
    assert names(models / "pets") == ["1", "config.pbtxt", "labels.txt"]


def test_the_command_prints_the_reason_and_exits_with_0(
    pixelserve: Command, export: Callable[..., Exported], tmp_path: Path, labels: Path, samples: Path, models: Path
) -> None:
    export(0.0)
    worse = write_classifier(tmp_path / "worse.onnx", noise=1.0)
    given = ("export", worse, "--name", "pets", "--labels", labels, "--samples", samples, "--to", models, "--if-better")
    ran = pixelserve(*given)
    assert ran.exit_code == 0
    assert ran.out.startswith("not published: of 200 samples the candidate gets ")
    assert "wrote" not in ran.err
    told = json.loads(pixelserve(*given, "--json").out)
    assert (told["published"], told["version"], told["verdict"]["serving"]) == (False, None, 1)
    assert told["verdict"]["reason"] in ran.out


def test_a_version_with_other_labels_is_refused(
    pixelserve: Command, export: Callable[..., Exported], tmp_path: Path, samples: Path, models: Path
) -> None:
    export(0.5)
    other = tmp_path / "other.txt"
    other.write_text("ant\nbee\nfly\n")
    source = write_classifier(tmp_path / "best.onnx", noise=0.0)
    ran = pixelserve(
        *("export", source, "--name", "pets", "--labels", other, "--samples", samples, "--to", models, "--if-better")
    )
    assert ran.exit_code == 2
    assert "its labels are cat, dog, owl, the new version's are ant, bee, fly" in ran.err
    assert names(models / "pets") == ["1", "config.pbtxt", "labels.txt"]


def test_without_labelled_samples_there_is_nothing_to_compare_on(
    pixelserve: Command, tmp_path: Path, labels: Path, models: Path
) -> None:
    source = write_classifier(tmp_path / "model.onnx", noise=0.0)
    ran = pixelserve("export", source, "--name", "pets", "--labels", labels, "--to", models, "--if-better")
    assert ran.exit_code == 2
    assert "--if-better: give inputs x, their labels y" in ran.err
    assert not models.exists()


def test_a_damaged_serving_version_is_named_and_stays(export: Callable[..., Exported], models: Path) -> None:
    export(0.5)
    (models / "pets" / "1" / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(Exception, match="SHA-256 is"):
        export(0.0)
    assert names(models / "pets") == ["1", "config.pbtxt", "labels.txt"]


def test_a_version_published_in_the_meantime_is_compared_with_as_well(
    export: Callable[..., Exported], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timeline: 1. a better and a best candidate are both compared with version 1; 2. the best one is published as
    version 2; 3. the better one finds version 2 taken, is compared with it, and is not published."""
    export(1.0)
    original = better.publish

    def overtaken(slot: Any, content: Any) -> None:
        monkeypatch.setattr(better, "publish", original)
        assert export(0.0).slot.version == 2
        original(slot, content)

    monkeypatch.setattr(better, "publish", overtaken)
    late = export(0.5)
    assert not late.published
    assert late.decision is not None
    assert late.decision.serving == 2
    assert names(models / "pets") == ["1", "2", "config.pbtxt", "labels.txt"]


def test_jobs_that_publish_a_new_model_at_once_leave_one_whole_version(
    export: Callable[..., Exported], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = threading.Barrier(2)
    original = better.publish

    def together(slot: Any, content: Any) -> None:
        barrier.wait(timeout=30)
        original(slot, content)

    # The loser of the race compares, finds no lead, and calls it no second time.
    monkeypatch.setattr(better, "publish", together)
    results: list[Exported] = []
    threads = [threading.Thread(target=lambda: results.append(export(0.5))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.published for result in results) == [False, True]
    assert names(models / "pets") == ["1", "config.pbtxt", "labels.txt"]
    assert names(models / "pets" / "1") == ["card.json", "golden.npz", "model.onnx"]


@pytest.fixture
def replacing(
    export: Callable[..., Exported], tmp_path: Path, labels: Path, samples: Path, models: Path
) -> list[object]:
    """The command that exports a better version than the one in the repository."""
    export(1.0)
    source = write_classifier(tmp_path / "better.onnx", noise=0.0)
    places = ["--labels", labels, "--samples", samples, "--to", models]
    return ["export", source, "--name", "pets", *places, "--if-better"]


def test_a_full_disk_leaves_the_serving_version_alone(
    pixelserve: Command, replacing: list[object], models: Path, small_files: Callable[[int], Any]
) -> None:
    with small_files(4000):
        ran = pixelserve(*replacing)
    assert ran.exit_code == 1
    assert "cannot be written: File too large; nothing was left behind" in ran.err
    assert names(models / "pets") == ["1", "config.pbtxt", "labels.txt"]


def test_sigterm_leaves_the_serving_version_alone(
    pixelserve: Command, replacing: list[object], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timeline: 1. the new version is being written beside its place; 2. SIGTERM; 3. the partial version is removed."""
    original = publish.write_golden

    def stopped(path: Path, golden: Any) -> None:
        original(path, golden)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(publish, "write_golden", stopped)
    ran = pixelserve(*replacing)
    assert ran.exit_code == 130
    assert names(models / "pets") == ["1", "config.pbtxt", "labels.txt"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
