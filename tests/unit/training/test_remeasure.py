"""`pixelserve evaluate`: an exported version is measured again and compared with its card."""

import base64
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from pixelserve.card import Card, DataSet, read_card, sha256_of
from pixelserve.figures import Confusion, Evaluation
from pixelserve_training.errors import SamplesError, SourceError, UsageError
from pixelserve_training.exporting import external
from pixelserve_training.exporting.export import Target, export_file
from pixelserve_training.measuring import timing
from pixelserve_training.measuring.remeasure import Remeasured, remeasure

Command = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[3]
LABELS = ("cat", "dog", "owl")


@pytest.fixture(autouse=True)
def _short_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_BUDGET_S", 0.0)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Inputs and labels of `own_onnx`, 30 of each class; a guess would be as good as the model."""
    pixels = np.random.default_rng(5).random((90, 6, 6, 1))
    np.savez(tmp_path / "samples.npz", x=pixels, y=np.arange(90) % 3)
    return tmp_path / "samples.npz"


@pytest.fixture
def repository(tmp_path: Path, own_onnx: Path, samples: Path) -> Path:
    """A repository with version 1 of `own`."""
    (tmp_path / "labels.txt").write_text("\n".join(LABELS) + "\n")
    target = Target(tmp_path / "models", "own")
    export_file(own_onnx, target, labels=tmp_path / "labels.txt", samples=samples, pixel_scale=None)
    return tmp_path / "models"


def again(repository: Path, samples: Path | None, model: str = "own", data_dir: Path | None = None) -> Remeasured:
    return remeasure(model, repository=repository, data_dir=data_dir, samples=samples)


def change_card(repository: Path, **changes: Any) -> Card:
    path = repository / "own" / "1" / "card.json"
    card = read_card(path).model_copy(update=changes)
    card.write(path)
    return card


def test_a_version_agrees_with_its_card_on_the_samples_that_it_was_exported_with(
    repository: Path, samples: Path
) -> None:
    found = again(repository, samples)
    assert found.figures.evaluation == read_card(repository / "own" / "1" / "card.json").evaluation
    assert (found.incomparable, found.differences) == ("", [])
    assert found.confusion is not None
    assert found.confusion.sum(axis=1).tolist() == [30, 30, 30]
    assert np.trace(found.confusion) == round(found.figures.accuracy * 90)
    assert list(found.latency_us) == [1, 64]
    assert all(latency > 0 for latency in found.latency_us.values())


def test_the_command_prints_figures_beside_the_cards_and_the_confusion(
    pixelserve: Command, repository: Path, samples: Path
) -> None:
    ran = pixelserve("evaluate", "own", "--model-repository", repository, "--samples", samples)
    assert ran.exit_code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == "own version 1: 90 samples of samples.npz (samples)"
    figures = lines[: lines.index("")]
    rows = {line.rsplit(maxsplit=2)[0]: line.split()[-2:] for line in figures if "%" in line}
    interval = next(line for line in figures if line.startswith("95 % interval"))
    low, high = again(repository, samples).interval or (0, 1)
    assert interval.count(f"{low:.2%} to {high:.2%}") == 2
    rows = {name: shown for name, shown in rows.items() if not name.startswith("95 % interval")}
    by_class = [f"{figure} of {label}" for figure in ("recall", "precision", "F1") for label in LABELS]
    assert list(rows) == ["accuracy", "balanced accuracy", *by_class]
    assert all(measured == claimed for measured, claimed in rows.values())
    table = lines[lines.index("confusion: predicted label by column") + 1 :]
    assert table[0].split() == ["true", "label", "0", "1", "2"]
    assert [sum(map(int, line.split()[2:])) for line in table[1:4]] == [30, 30, 30]
    (surest, *_) = again(repository, samples).figures.evaluation.surest_errors
    errors = lines[lines.index("the most confident errors") + 2 :]
    assert errors[0].split() == [str(surest.sample), surest.label, surest.predicted, f"{surest.probability:.2%}"]
    assert len(errors[: errors.index("")]) == 16
    assert lines[-1] == "agrees with its card"
    assert "measuring own version 1 on 90 samples" in ran.err


def test_the_surest_errors_have_their_pictures_in_the_card_alone(
    pixelserve: Command, repository: Path, own_onnx: Path, samples: Path
) -> None:
    options = {"labels": repository.parent / "labels.txt", "samples": samples, "pixel_scale": None}
    export_file(own_onnx, Target(repository, "seen"), picture="scale=0..1", **options)  # type: ignore[arg-type]
    evaluation = read_card(repository / "seen" / "1" / "card.json").evaluation
    assert evaluation is not None
    (error, *_) = evaluation.surest_errors
    assert error.picture is not None
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(error.picture))))
    pixels = np.load(samples)["x"][error.sample, ..., 0]
    np.testing.assert_array_equal(shown, np.rint(pixels * 255))
    assert again(repository, samples, "seen").figures.evaluation == evaluation
    ran = pixelserve("evaluate", "seen", "--model-repository", repository, "--samples", samples, "--json")
    assert '"picture"' not in ran.out


def test_json_holds_every_figure_and_the_cards(pixelserve: Command, repository: Path, samples: Path) -> None:
    ran = pixelserve("evaluate", "own", "--model-repository", repository, "--samples", samples, "--json")
    result = json.loads(ran.out)
    card = json.loads((repository / "own" / "1" / "card.json").read_text())
    assert {name: result[name] for name in card["evaluation"]} == card["evaluation"]
    assert result["card"]["evaluation"] == card["evaluation"]
    assert result["calibration"] == card["calibration"]
    assert result["confusion"]["labels"] == list(LABELS)
    assert np.sum(result["confusion"]["counts"]) == 90
    assert set(result["latency_us"]) == {"1", "64"}
    assert (result["incomparable"], result["differences"]) == ("", [])


def test_a_model_is_found_by_name_version_and_folder(repository: Path, samples: Path) -> None:
    own = repository / "own"
    shutil.copytree(own / "1", own / "12")
    for model, version in (("own", "12"), ("own:1", "1"), (str(own), "12"), (str(own / "1"), "1")):
        assert again(repository, samples, model).version.folder.name == version


def test_a_graph_in_a_folder_of_its_name_is_measured_too(repository: Path, samples: Path) -> None:
    """As Triton lays out a model whose weights are in other files."""
    version = repository / "own" / "1"
    graph = (version / "model.onnx").rename(version / "graph")
    (version / "model.onnx").mkdir()
    graph.rename(version / "model.onnx" / "model.onnx")
    for model in (str(version), "own"):
        measured = again(repository, samples, model).as_json()
        assert (measured["incomparable"], measured["differences"]) == ("", [])


@pytest.mark.parametrize("model", ["cat", "own:7", "own:x", "../nowhere", "labels.txt"])
def test_a_model_that_is_not_there_is_refused_with_what_there_is(repository: Path, samples: Path, model: str) -> None:
    with pytest.raises(SourceError, match=r"no such model; .*, which has: own:1"):
        again(repository, samples, model)


def test_a_missing_repository_has_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="which has: none"):
        again(tmp_path / "nowhere", None)


@pytest.mark.parametrize(
    ("file", "remedy"),
    [("card.json", "no card.json; without a card there is no evidence"), ("model.onnx", "no model.onnx; give a")],
)
def test_a_version_without_a_card_or_model_is_refused(repository: Path, samples: Path, file: str, remedy: str) -> None:
    (repository / "own" / "1" / file).unlink()
    with pytest.raises(SourceError, match=remedy):
        again(repository, samples)


def test_another_file_than_the_cards_is_refused_before_anything_is_measured(
    pixelserve: Command, repository: Path, samples: Path
) -> None:
    with (repository / "own" / "1" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    ran = pixelserve("evaluate", "own", "--model-repository", repository, "--samples", samples)
    assert ran.exit_code == SourceError.exit_code
    assert "SHA-256" in ran.err
    assert "measuring" not in ran.err


def test_a_damaged_card_is_named(repository: Path, samples: Path) -> None:
    (repository / "own" / "1" / "card.json").write_text("{}")
    with pytest.raises(SourceError, match=r"card\.json: "):
        again(repository, samples)


def test_a_figure_that_is_not_the_cards_is_named_and_the_exit_code_is_14(
    pixelserve: Command, repository: Path, samples: Path
) -> None:
    evaluation = read_card(repository / "own" / "1" / "card.json").evaluation
    assert evaluation is not None
    accuracy = evaluation.metrics["accuracy"]
    # One turned label is rounding, two are not.
    for turned, exit_code in ((1, 0), (2, 14)):
        change_card(
            repository, evaluation=evaluation.model_copy(update={"metrics": {"accuracy": accuracy + turned / 90}})
        )
        ran = pixelserve("evaluate", "own", "--model-repository", repository, "--samples", samples)
        assert ran.exit_code == exit_code
    last = ran.out.splitlines()[-1]
    assert last == f"DIFFERS FROM ITS CARD: accuracy is {accuracy:.6g}, the card says {accuracy + 2 / 90:.6g}"


def test_recall_and_calibration_are_held_against_the_card_too(repository: Path, samples: Path) -> None:
    card = read_card(repository / "own" / "1" / "card.json")
    assert card.evaluation is not None
    assert card.calibration is not None
    recall = card.evaluation.per_class_recall | {"dog": card.evaluation.per_class_recall["dog"] + 2 / 30}
    error = card.calibration.expected_calibration_error + 0.002
    change_card(
        repository,
        evaluation=card.evaluation.model_copy(update={"per_class_recall": recall}),
        calibration=card.calibration.model_copy(update={"expected_calibration_error": error}),
    )
    recall_of_dog, calibration_error = again(repository, samples).differences
    assert recall_of_dog.startswith("recall of dog is ")
    assert calibration_error.startswith("calibration error is ")


def test_the_confusion_is_held_against_the_card_too(repository: Path, samples: Path) -> None:
    evaluation = read_card(repository / "own" / "1" / "card.json").evaluation
    assert evaluation is not None
    assert evaluation.confusion is not None
    counts = [list(row) for row in evaluation.confusion.counts]

    def differences(moved: int, labels: tuple[str, ...] = LABELS) -> list[str]:
        changed = [list(row) for row in counts]
        changed[0][0] -= moved
        changed[0][1] += moved
        confusion = Confusion(labels=list(labels), counts=changed)
        change_card(repository, evaluation=evaluation.model_copy(update={"confusion": confusion}))
        return again(repository, samples).differences

    assert differences(1) == []
    assert differences(2) == ["the confusion matrix has 2 samples in other cells"]
    assert differences(0, LABELS[::-1]) == ["the confusion matrix has other labels than the card's"]


def test_an_older_card_is_completed_on_request(pixelserve: Command, repository: Path, samples: Path) -> None:
    card = read_card(repository / "own" / "1" / "card.json")
    assert card.evaluation is not None
    assert card.calibration is not None
    older = {"per_class_samples": {}, "confusion": None, "surest_errors": []}
    change_card(
        repository,
        evaluation=card.evaluation.model_copy(update=older),
        calibration=card.calibration.model_copy(update={"reliability": []}),
    )
    command = ("evaluate", "own", "--model-repository", repository, "--samples", samples)
    assert pixelserve(*command).out.endswith("agrees with its card\n")
    assert read_card(repository / "own" / "1" / "card.json") != card
    assert pixelserve(*command, "--write-card").exit_code == 0
    assert read_card(repository / "own" / "1" / "card.json") == card
    files = sorted(path.name for path in (repository / "own" / "1").iterdir())
    assert files == ["card.json", "golden.npz", "model.onnx"]


def test_a_card_that_cannot_be_replaced_stays_and_leaves_nothing_beside_it(
    pixelserve: Command, repository: Path, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    folder = repository / "own" / "1"
    before = (folder / "card.json").read_bytes()
    monkeypatch.setattr(Path, "replace", fail)
    command = ("evaluate", "own", "--model-repository", repository, "--write-card", "--samples", samples)
    assert pixelserve(*command).exit_code != 0
    assert (folder / "card.json").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "golden.npz", "model.onnx"]


def test_a_card_that_differs_or_is_of_other_samples_is_not_written(
    pixelserve: Command, repository: Path, samples: Path, tmp_path: Path
) -> None:
    path = repository / "own" / "1" / "card.json"
    evaluation = read_card(path).evaluation
    assert evaluation is not None
    changed = change_card(repository, evaluation=evaluation.model_copy(update={"metrics": {"accuracy": 0.0}}))
    command = ("evaluate", "own", "--model-repository", repository, "--write-card", "--samples")
    assert pixelserve(*command, samples).exit_code == 14
    np.savez(tmp_path / "other.npz", x=np.zeros((3, 6, 6, 1)), y=np.arange(3))
    ran = pixelserve(*command, tmp_path / "other.npz")
    assert ran.exit_code == UsageError.exit_code
    assert "its card is unchanged: other.npz is other data than its card's samples.npz, by the hash" in ran.err
    assert read_card(path) == changed


def test_other_samples_are_measured_but_not_held_against_the_card(
    pixelserve: Command, repository: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros((3, 6, 6, 1)), y=np.arange(3))
    ran = pixelserve("evaluate", "own", "--model-repository", repository, "--samples", tmp_path / "other.npz")
    assert ran.exit_code == 0
    last = ran.out.splitlines()[-1]
    assert last == "not comparable with the card: other.npz is other data than its card's samples.npz, by the hash"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"evaluation": None}, "its card holds no figures"),
        ({"evaluation": Evaluation(split="test", samples=1, metrics={})}, "of the split test, these of samples"),
    ],
)
def test_a_card_that_cannot_be_compared_says_why(
    repository: Path, samples: Path, changes: dict[str, Any], reason: str
) -> None:
    change_card(repository, **changes)
    found = again(repository, samples)
    assert reason in found.incomparable
    assert found.differences == []


@pytest.mark.parametrize(
    ("dataset", "says"),
    [(None, "names no data set"), (DataSet(name="pets", sha256="ab" * 32), 'names the data set "pets"')],
)
def test_a_data_set_that_is_not_known_has_its_remedy_named(
    repository: Path, dataset: DataSet | None, says: str
) -> None:
    change_card(repository, dataset=dataset)
    with pytest.raises(UsageError, match=rf"{says}, and only .*mnist.*; give inputs x and labels y with --samples"):
        again(repository, None)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"x": np.zeros((4, 6, 6, 1))}, "no array y with the samples' labels"),
        ({"x": np.zeros((4, 6, 6, 1)), "y": np.full(4, 3)}, "a sample's label is 3; expected 0 to 2"),
        ({"x": np.zeros((4, 6, 6, 1)), "y": np.full(4, -1)}, "a sample's label is -1; expected 0 to 2"),
        ({"x": np.zeros((4, 6, 5, 1)), "y": np.zeros(4, int)}, r"has shape \[4, 6, 5, 1\]"),
    ],
)
def test_samples_that_do_not_fit_are_refused(
    repository: Path, tmp_path: Path, arrays: dict[str, Any], reason: str
) -> None:
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(SamplesError, match=reason):
        again(repository, tmp_path / "other.npz")


def test_a_missing_labels_file_is_named_where_it_is_needed(repository: Path, samples: Path) -> None:
    (repository / "own" / "labels.txt").unlink()
    with pytest.raises(SamplesError, match=r"no labels\.txt beside the version"):
        again(repository, samples)


def test_labels_of_another_number_than_the_models_classes_are_refused(repository: Path, samples: Path) -> None:
    (repository / "own" / "labels.txt").write_text("cat\ndog\n")
    np.savez(samples, x=np.zeros((4, 6, 6, 1)), y=np.zeros(4, int))
    with pytest.raises(SamplesError, match="2 labels are given, but scores has 3 classes"):
        again(repository, samples)


def test_labels_of_another_number_than_the_free_classes_are_refused(repository: Path, samples: Path) -> None:
    path = repository / "own" / "1" / "model.onnx"
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "classes"
    onnx.save(model, path)
    change_card(repository, sha256=sha256_of(path))
    (repository / "own" / "labels.txt").write_text("cat\ndog\n")
    np.savez(samples, x=np.zeros((4, 6, 6, 1)), y=np.zeros(4, int))
    with pytest.raises(SamplesError, match="2 labels are given, but scores has 3 classes"):
        again(repository, samples)


def test_many_labels_have_their_most_frequent_confusions_listed(
    pixelserve: Command, repository: Path, tmp_path: Path
) -> None:
    labels = [f"kind {index}" for index in range(30)]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["rows"], ["scores"])],
        "many",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["N", 30])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 30])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "many.onnx")
    (tmp_path / "many.txt").write_text("\n".join(labels))
    np.savez(tmp_path / "many.npz", x=np.eye(30)[[4, 4, 4, 5]], y=np.array([4, 7, 7, 6]))
    options = {"labels": tmp_path / "many.txt", "samples": tmp_path / "many.npz", "pixel_scale": None}
    export_file(tmp_path / "many.onnx", Target(repository, "many"), **options)  # type: ignore[arg-type]
    ran = pixelserve("evaluate", "many", "--model-repository", repository, "--samples", tmp_path / "many.npz")
    table = ran.out[ran.out.index("most frequent confusions of 30 labels") :].splitlines()[2:4]
    assert [line.split() for line in table] == [["2", "kind", "7", "kind", "4"], ["1", "kind", "6", "kind", "5"]]


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """A repository with a regression: the sum of two columns."""
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["rows", "axes"], ["sum"])],
        "line",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["N", 1])],
        [onnx.numpy_helper.from_array(np.array([1]), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "line.onnx")
    np.savez(tmp_path / "line.npz", x=np.array([[1.0, 2.0], [3.0, 4.0]]), y=np.array([3.0, 5.0]))
    export_file(tmp_path / "line.onnx", Target(tmp_path / "lines", "line"), labels=None, samples=None, pixel_scale=None)
    return tmp_path / "lines"


def test_a_regression_has_its_mean_squared_error(pixelserve: Command, line: Path, tmp_path: Path) -> None:
    ran = pixelserve("evaluate", "line", "--model-repository", line, "--samples", tmp_path / "line.npz", "--json")
    assert ran.exit_code == 0, ran.err
    result = json.loads(ran.out)
    assert result["metrics"] == {"mean_squared_error": 2.0}
    assert result["confusion"] is None
    ran = pixelserve("evaluate", "line", "--model-repository", line, "--samples", tmp_path / "line.npz")
    assert "mean_squared_error" in ran.out
    assert "confusion" not in ran.out


def test_a_regressions_error_is_held_against_the_card(line: Path, tmp_path: Path) -> None:
    path = line / "line" / "1" / "card.json"
    samples = tmp_path / "line.npz"
    card = read_card(path).model_copy(update={"dataset": DataSet(name="line.npz", sha256=sha256_of(samples))})
    for claimed, differs in ((2.0001, False), (2.1, True)):
        figures = Evaluation(split="samples", samples=2, metrics={"mean_squared_error": claimed})
        card.model_copy(update={"evaluation": figures}).write(path)
        assert bool(again(line, samples, "line").differences) is differs


@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        ({}, "no array y with the values to predict"),
        ({"y": np.zeros(3)}, r"y is float64 \[3\], expected a number for each of 2 samples"),
        ({"y": np.array(["a", "b"])}, "expected a number for each of 2 samples"),
        ({"y": np.zeros((2, 2))}, "2 values per sample, but the model predicts 1"),
    ],
)
def test_values_that_do_not_fit_a_regression_are_refused(
    line: Path, tmp_path: Path, targets: dict[str, Any], reason: str
) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros((2, 2)), **targets)
    with pytest.raises(SamplesError, match=reason):
        again(line, tmp_path / "other.npz", "line")


def test_a_model_without_a_batch_dimension_is_timed_one_sample_a_run(
    single_onnx: Path, repository: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "single.npz", x=np.zeros((4, 1, 6, 6, 1)), y=np.zeros(4, int))
    options = {"labels": tmp_path / "labels.txt", "samples": tmp_path / "single.npz", "pixel_scale": None}
    export_file(single_onnx, Target(repository, "single"), **options)  # type: ignore[arg-type]
    found = again(repository, tmp_path / "single.npz", "single")
    assert list(found.latency_us) == [1]
    assert found.differences == []


def test_of_several_outputs_the_one_with_the_labels_is_measured(
    own_onnx: Path, samples: Path, repository: Path, tmp_path: Path
) -> None:
    model = onnx.load(own_onnx)
    model.graph.node.append(helper.make_node("Neg", ["scores"], ["inverse"]))
    model.graph.output.insert(0, helper.make_tensor_value_info("inverse", TensorProto.FLOAT, ["N", 3]))
    onnx.save(model, tmp_path / "two.onnx")
    target = Target(repository, "two", output="scores")
    options = {"labels": tmp_path / "labels.txt", "samples": samples, "pixel_scale": None}
    exported = export_file(tmp_path / "two.onnx", target, **options)  # type: ignore[arg-type]
    found = again(repository, samples, "two")
    assert found.figures.accuracy == exported.accuracy
    assert found.differences == []


def test_weights_beside_the_graph_are_read_with_it(
    own_onnx: Path, samples: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(onnx.load(own_onnx), tmp_path / "large.onnx", save_as_external_data=True, location="w", size_threshold=0)
    monkeypatch.setattr(external, "MOST_BYTES", 100)
    target = Target(repository, "large")
    export_file(tmp_path / "large.onnx", target, labels=tmp_path / "labels.txt", samples=samples, pixel_scale=None)
    assert (repository / "large" / "1" / "w").is_file()
    assert again(repository, samples, "large").differences == []


def test_the_labels_of_the_data_set_must_be_the_models(
    root: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(root / "models" / "mnist-cnn", tmp_path / "mnist-cnn")
    (tmp_path / "mnist-cnn" / "labels.txt").write_text("\n".join("1234567890"))
    with pytest.raises(SamplesError, match=r"its labels\.txt has 10 \(1, 2, 3, …\), MNIST has 10 \(0, 1, 2, …\)"):
        again(tmp_path, None, "mnist-cnn", data_dir)


def test_the_data_set_must_fit_the_model(repository: Path, data_dir: Path) -> None:
    change_card(repository, dataset=DataSet(name="MNIST", sha256="ab" * 32))
    (repository / "own" / "labels.txt").unlink()
    with pytest.raises(SamplesError, match=r"takes float32 \[6, 6, 1\] for pixels, MNIST has uint8 \[28, 28, 1\]"):
        again(repository, None, data_dir=data_dir)


@pytest.mark.slow
def test_the_cards_data_set_is_measured_without_tensorflow(root: Path, data_dir: Path) -> None:
    script = f"""
import sys
from pixelserve import cli
sys.argv = ["pixelserve", "evaluate", "mnist-cnn", "--model-repository", "{root}/models", "--data-dir", "{data_dir}"]
try:
    cli.main()
except SystemExit as end:
    assert not end.code
assert "onnxruntime" in sys.modules
assert not {{"tensorflow", "keras", "tf2onnx", "onnx"}} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "mnist-cnn version 1: 32 samples of MNIST (test)"
    assert lines[1] == "note: these are not the official MNIST files"
    assert lines[-1].startswith("not comparable with the card: MNIST is other data than its card's MNIST")
