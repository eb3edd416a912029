"""A version's output kind is determined at load: by a declaration, else by its outputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.card import Card, sha256_of
from pixelserve.golden import Golden, write_golden
from pixelserve.scores import OUTPUT_KINDS, parameter
from pixelserve_server.engine.scores import ScoreReader
from pixelserve_server.errors import RepositoryError
from pixelserve_server.repository.config import examine_config
from pixelserve_server.repository.evidence import VersionFiles
from pixelserve_server.repository.layout import ModelFolder
from pixelserve_server.repository.loaded import LoadedVersion
from pixelserve_server.repository.loader import Loader
from pixelserve_server.repository.output_kind import read_scores
from pixelserve_server.tools.doctor import examine

VALUES = np.array([[1, 2, 3, 4], [-5, 0, 1, 2]], np.float32)
BATCHED = "max_batch_size: 8\n"


@pytest.fixture
def model(tmp_path: Path, graph_writer: Callable[..., Path]) -> Callable[..., ModelFolder]:
    """Writes a model of one operator on float32 [N, columns], with labels a, b, … where there is a configuration."""

    def write(operator: str, *, columns: int = 4, config: str = "", labels: int = 0, **attributes: Any) -> ModelFolder:
        folder = tmp_path / "models" / "m"
        tensor = ("FLOAT", ["N", columns])
        graph_writer(folder / "1" / "model.onnx", {"x": tensor}, {"y": tensor}, (operator, "x", "y"), **attributes)
        if labels:
            (folder / "labels.txt").write_text("".join(f"{letter}\n" for letter in "abcdefgh"[:labels]))
            label_file = 'label_filename: "labels.txt"'
            config += f'{BATCHED}output {{ name: "y" data_type: TYPE_FP32 dims: [ {columns} ] {label_file} }}\n'
        if config:
            (folder / "config.pbtxt").write_text(config)
        return ModelFolder(folder)

    return write


def scores(loaded: LoadedVersion) -> ScoreReader:
    assert loaded.scores is not None
    return loaded.scores


def write_card(folder: ModelFolder, **fields: Any) -> None:
    version = folder.version_path(1)
    sha256 = sha256_of(version / "model.onnx")
    card = Card(name="m", task="tabular", sha256=sha256, created="2026-01-02T03:04:05Z", **fields)
    card.write(version / "card.json")


@pytest.mark.parametrize("kind", OUTPUT_KINDS)
def test_what_the_configuration_says_holds(model: Any, load: Any, kind: str) -> None:
    folder = model("Softmax", axis=1, config=BATCHED + parameter(kind))
    write_card(folder, output_kind="sigmoids")
    reader = scores(load(folder))
    assert (reader.kind, reader.declared, reader.reason) == (kind, True, "as config.pbtxt says")


def test_the_card_says_it_where_the_configuration_does_not(model: Any, load: Any) -> None:
    folder = model("Identity")
    write_card(folder, output_kind="logits")
    reader = scores(load(folder))
    assert (reader.kind, reader.declared, reader.reason) == ("logits", True, "as the card says")


@pytest.mark.parametrize(
    ("operator", "attributes", "kind"),
    [
        pytest.param("Softmax", {"axis": 1}, "probabilities", id="softmax"),
        pytest.param("Identity", {}, "scores", id="logits"),
        pytest.param("Sigmoid", {}, "scores", id="independent classes"),
        pytest.param("LogSoftmax", {"axis": 1}, "scores", id="logarithms"),
    ],
)
@pytest.mark.parametrize("has_golden", [True, False])
def test_without_a_declaration_the_outputs_tell(
    model: Any, load: Any, operator: str, attributes: dict[str, Any], kind: str, has_golden: bool
) -> None:
    folder = model(operator, **attributes)
    if has_golden:
        outputs = {"Softmax": softmax(VALUES), "Sigmoid": 1 / (1 + np.exp(-VALUES)), "Identity": VALUES}
        golden = outputs.get(operator, np.log(softmax(VALUES)))
        write_card(folder)
        write_golden(folder.version_path(1) / "golden.npz", Golden({"x": VALUES}, {"y": golden}))
    reader = scores(load(folder))
    assert (reader.kind, reader.declared) == (kind, False)
    assert ("golden samples" in reader.reason, "tried with" in reader.reason) == (has_golden, not has_golden)


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def test_one_output_that_looks_like_probabilities_is_not_enough(model: Any, load: Any) -> None:
    # Of zeros, which are tried first, two sigmoids are a half each.
    assert scores(load(model("Sigmoid", columns=2))).kind == "scores"


def test_outputs_of_nothing_but_nan_tell_nothing(model: Any, load: Any) -> None:
    # The arcus cosine of 0 is beyond 1, and of most other numbers it is none.
    reader = scores(load(model("Acos")))
    assert reader.kind == "scores"


def test_a_model_that_is_not_known_to_compute_anything_has_scores(model: Any, load: Any) -> None:
    config = load(model("Softmax", axis=1)).config
    session: Any = None
    reader = read_scores(config, VersionFiles(Path(), Path(), None, None, {}), session, None, str)
    assert reader is not None
    assert (reader.kind, reader.reason) == ("scores", "not declared, and there were no outputs to tell by")


def test_golden_samples_override_a_declaration_and_this_is_logged(model: Any, load: Any) -> None:
    folder = model("Identity", config=BATCHED + parameter("probabilities"))
    write_card(folder)
    write_golden(folder.version_path(1) / "golden.npz", Golden({"x": VALUES}, {"y": VALUES}))
    told: list[Any] = []
    loaded = load(folder, on_other_output=lambda *facts: told.append(facts))
    assert scores(loaded).kind == "scores"
    ((name, version, reason),) = told
    assert (name, version) == ("m", 1)
    assert "probabilities were declared" in reason


@pytest.mark.parametrize(
    ("operator", "kind", "values", "classes"),
    [
        pytest.param("Sigmoid", "", [0.75], [0.25, 0.75], id="undeclared"),
        pytest.param("Sigmoid", "sigmoids", [0.75], [0.25, 0.75], id="sigmoid"),
        pytest.param("Identity", "logits", [0.0], [0.5, 0.5], id="logit"),
    ],
)
def test_one_unit_with_two_labels_gives_both_classes(
    model: Any, load: Any, operator: str, kind: str, values: list[float], classes: list[float]
) -> None:
    reader = scores(load(model(operator, columns=1, labels=2, config=parameter(kind) if kind else "")))
    reading = reader.read(np.array([values], np.float32))
    assert (reader.classes, reading.numbers.tolist(), reading.are_probabilities) == (2, [classes], True)


def test_one_number_without_labels_is_not_a_classifier(model: Any, load: Any) -> None:
    assert load(model("Identity", columns=1)).scores is None


@pytest.mark.parametrize(("columns", "labels"), [(1, 3), (4, 2), (3, 4)])
def test_labels_must_be_as_many_as_classes(model: Any, load: Any, columns: int, labels: int) -> None:
    with pytest.raises(RepositoryError, match=f"{labels} labels; y has {columns} classes"):
        load(model("Identity", columns=columns, labels=labels))


@pytest.mark.parametrize(("value", "nearest"), [("logit", "logits"), ("sigmoid", "sigmoids"), ("PROBABILITIES", "")])
def test_a_kind_that_there_is_not_is_refused_with_what_to_write(model: Any, value: str, nearest: str) -> None:
    folder = model("Identity", config=BATCHED + parameter(value))
    _, (error,) = examine_config(folder)
    assert (error.line, f'output_kind is "{value}"' in error.problem) == (2, True)
    assert all(kind in error.problem for kind in OUTPUT_KINDS)
    assert nearest in error.write
    assert error.write in map(parameter, OUTPUT_KINDS)


@pytest.mark.parametrize(
    ("operator", "columns", "labels", "write"),
    [
        pytest.param("Identity", 4, 4, parameter("logits"), id="scores"),
        pytest.param("Sigmoid", 1, 2, parameter("sigmoids"), id="one unit"),
    ],
)
def test_doctor_says_what_to_write_and_is_quiet_then(
    model: Any, loader: Loader, operator: str, columns: int, labels: int, write: str
) -> None:
    folder = model(operator, columns=columns, labels=labels)
    findings = [each for each in examine(folder.path.parent, loader).findings if "output_kind" in each.write]
    assert [(each.severity, each.path, each.write) for each in findings] == [("warning", folder.config_file, write)]
    assert all(kind in findings[0].problem for kind in OUTPUT_KINDS)
    folder.config_file.write_text(folder.config_file.read_text() + write)
    assert not [each for each in examine(folder.path.parent, loader).findings if "output_kind" in each.write]


def test_doctor_has_nothing_to_say_of_a_softmax_or_of_numbers_without_names(model: Any, loader: Loader) -> None:
    folder = model("Softmax", axis=1, labels=4)
    assert not [each for each in examine(folder.path.parent, loader).findings if "output_kind" in each.write]
    (folder.path / "config.pbtxt").unlink()
    model("Identity")
    assert not [each for each in examine(folder.path.parent, loader).findings if "output_kind" in each.write]


def test_doctor_warns_of_a_declaration_without_a_classifier(
    tmp_path: Path, graph_writer: Callable[..., Path], loader: Loader
) -> None:
    folder, tensor = tmp_path / "models" / "m", ("FLOAT", ["N", 2, 2])
    graph_writer(folder / "1" / "model.onnx", {"x": tensor}, {"y": tensor}, ("Identity", "x", "y"))
    (folder / "config.pbtxt").write_text(BATCHED + parameter("logits"))
    findings = [each for each in examine(folder.parent, loader).findings if "output_kind" in each.problem]
    assert [(each.severity, each.line, "has no effect" in each.problem) for each in findings] == [("warning", 2, True)]


def test_doctor_points_at_a_declaration_that_the_outputs_contradict(model: Any, loader: Loader) -> None:
    folder = model("Identity", config="\n" + parameter("sigmoids") + "\n", labels=4)
    write_card(folder)
    write_golden(folder.version_path(1) / "golden.npz", Golden({"x": VALUES}, {"y": VALUES}))
    (finding,) = [each for each in examine(folder.path.parent, loader).findings if "output_kind" in each.write]
    assert (finding.line, "sigmoids were declared" in finding.problem) == (2, True)
