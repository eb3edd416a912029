"""The doctor finds all problems of a repository, with their place and remedy."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pixelserve.card import Card, Parity, read_card, sha256_of
from pixelserve.external_data import external_hashes
from pixelserve.golden import Golden, write_golden
from pixelserve_server.engine.session import Session
from pixelserve_server.errors import StartupError
from pixelserve_server.repository.loader import Loader
from pixelserve_server.tools.doctor import examine
from pixelserve_server.tools.findings import Finding, Report

VALUES = np.ones((2, 4), dtype=np.float32)
GOOD = """name: "doubler"
max_batch_size: 8
input { name: "values" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "doubled" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" }
parameters { key: "output_kind" value { string_value: "scores" } }
"""


def prove(version: Path, *, sha256: str = "", factor: int = 2) -> None:
    """Gives a doubler a card and golden samples, which hold unless another hash or factor is given."""
    Card(
        name="doubler",
        task="tabular",
        sha256=sha256 or sha256_of(version / "model.onnx"),
        created="2026-01-02T03:04:05Z",
        parity=[Parity(precision="float32", provider="CPUExecutionProvider", tolerance=1e-5)],
    ).write(version / "card.json")
    write_golden(version / "golden.npz", Golden({"values": VALUES}, {"doubled": VALUES * factor}))


def move_weights_out(graph: Path, location: str = "weights.bin") -> None:
    """Makes of a doubler one that multiplies by two from a file, and renews its card."""
    model = onnx.load(graph)
    two = onnx.numpy_helper.from_array(np.full(4, 2, np.float32), "two")
    two.data_location = onnx.TensorProto.EXTERNAL
    two.external_data.add(key="location", value=location)
    (graph.parent / location).write_bytes(two.raw_data)
    two.ClearField("raw_data")
    model.graph.initializer.append(two)
    model.graph.node[0].op_type, model.graph.node[0].input[1] = "Mul", "two"
    graph.write_bytes(model.SerializeToString())
    version = graph.parent if graph.parent.name == "1" else graph.parent.parent
    if location == "weights.bin":
        card = read_card(version / "card.json")
        hashes = {"sha256": sha256_of(graph), "external_data": external_hashes(graph)}
        card.model_copy(update=hashes).write(version / "card.json")


@pytest.fixture
def repository(tmp_path: Path, model_writer: Callable[..., Path]) -> Path:
    """One model, `doubler`, with nothing wrong about it."""
    folder = tmp_path / "models" / "doubler"
    model_writer(folder / "1" / "model.onnx")
    prove(folder / "1")
    (folder / "config.pbtxt").write_text(GOOD)
    (folder / "labels.txt").write_text("a\nb\nc\nd\n")
    return tmp_path / "models"


@pytest.fixture
def diagnose(repository: Path, loader: Loader) -> Callable[..., list[tuple[Any, ...]]]:
    """Examines the repository: severity, path in it, line, problem and what to write of each finding."""

    def run(*, quick: bool = False, **changes: Any) -> list[tuple[Any, ...]]:
        report = examine(repository, dataclasses.replace(loader, **changes), quick=quick)
        assert report.would_serve is all(finding.severity == "warning" for finding in report.findings)
        return [summary(finding, repository) for finding in report.findings]

    return run


def summary(finding: Finding, repository: Path) -> tuple[Any, ...]:
    path = finding.path.relative_to(repository)
    return finding.severity, str(path), finding.line, finding.problem, finding.write


@pytest.mark.parametrize("quick", [False, True])
def test_a_good_repository_has_no_findings(repository: Path, loader: Loader, quick: bool) -> None:
    report = examine(repository, loader, quick=quick)
    assert report.findings == []
    assert report.would_serve
    (model,) = report.models
    said = "as far as its files say" if quick else "verified: 2 golden samples reproduced"
    assert model.versions[1].startswith(said)


def configure(old: str, new: str) -> Callable[[Path], None]:
    """Returns what replaces text in the configuration."""

    def spoil(folder: Path) -> None:
        text = (folder / "config.pbtxt").read_text()
        assert old in text
        (folder / "config.pbtxt").write_text(text.replace(old, new))

    return spoil


def write(name: str, content: str = "") -> Callable[[Path], None]:
    """Returns what writes a file."""

    def spoil(folder: Path) -> None:
        path = Path(os.path.normpath(folder / name))
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)

    return spoil


def make(name: str) -> Callable[[Path], None]:
    """Returns what makes a folder."""
    return lambda folder: (folder / name).mkdir(parents=True)


def remove(name: str) -> Callable[[Path], None]:
    """Returns what removes a file."""
    return lambda folder: (folder / name).unlink()


def replace_by_unreadable(name: str) -> Callable[[Path], None]:
    """Returns what makes a file unreadable, even to root: a process's memory has nothing at its beginning."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to("/proc/self/mem")

    return spoil


def rename(old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: (folder / old).rename(folder / new) and None


CONFIG, MODEL, LABELS = "doubler/config.pbtxt", "doubler/1/model.onnx", "doubler/labels.txt"
HIDDEN = "hidden, and never looked at; half copied? "

# Damage to the good model's folder; severity, path, line, the problem's beginning, and the remedy.
PROBLEMS: dict[str, tuple[Callable[[Path], object], tuple[str, str, int | None, str, str]]] = {
    "a misspelt field": (
        configure("max_batch_size", "max_batch"),
        ("error", CONFIG, 2, "`max_batch: 8`: ModelConfig has no max_batch", "max_batch_size: 8"),
    ),
    "a refused field": (
        configure("max_batch_size: 8", "max_batch_size: 8\nsequence_batching { }"),
        ("error", CONFIG, 3, "sequence_batching is not served: sequences and their state", ""),
    ),
    "an ignored field": (
        configure("max_batch_size: 8", 'max_batch_size: 8\nmetric_tags { key: "a" value: "b" }'),
        ("warning", CONFIG, 3, "not served, ignored: metric_tags: metrics are", ""),
    ),
    "a policy that serves nothing": (
        configure("max_batch_size: 8", "max_batch_size: 8 version_policy { specific { versions: 7 } }"),
        (
            *("error", CONFIG, 2, "version_policy serves none of the versions on disk: [1]"),
            "version_policy { specific { versions: [ 1 ] } }",
        ),
    ),
    "a label file of the wrong length": (
        write("labels.txt", "a\nb\n"),
        ("error", LABELS, None, "2 labels; doubled has 4 classes, one label a line each", ""),
    ),
    "no label file": (remove("labels.txt"), ("error", LABELS, None, "cannot be read: No such file", "")),
    "an unreadable label file": (
        replace_by_unreadable("labels.txt"),
        ("error", LABELS, None, "cannot be read: Input/output error", ""),
    ),
    "an unreadable configuration": (
        replace_by_unreadable("config.pbtxt"),
        ("error", CONFIG, None, "cannot be read: Input/output error", ""),
    ),
    "an unreadable card": (
        replace_by_unreadable("1/card.json"),
        ("error", "doubler/1/card.json", None, "cannot be read: Input/output error", ""),
    ),
    "a card of another file": (
        lambda folder: prove(folder / "1", sha256="00" * 32),
        ("error", MODEL, None, "SHA-256 is ", ""),
    ),
    "a card that is no card": (
        write("1/card.json", "{"),
        ("error", "doubler/1/card.json", None, "the whole file: Invalid JSON", ""),
    ),
    "damaged golden samples": (
        write("1/golden.npz", "PK"),
        ("error", "doubler/1/golden.npz", None, "cannot be read as golden samples", ""),
    ),
    "no card": (remove("1/card.json"), ("warning", "doubler/1", None, "no card.json: unverified", "")),
    "no golden samples": (
        remove("1/golden.npz"),
        ("warning", "doubler/1", None, "no golden.npz to replay: unverified", ""),
    ),
    "version 0": (make("0"), ("warning", "doubler/0", None, "no version: a version's folder is a positive", "")),
    "a leading zero": (make("02"), ("warning", "doubler/02", None, "no version: a version's folder is a positive", "")),
    "a folder with a name": (make("abc"), ("warning", "doubler/abc", None, "no version: a version's folder is", "")),
    "a hidden version": (make(".2.partial"), ("warning", "doubler/.2.partial", None, HIDDEN, "")),
    "a hidden model": (make("../.copy"), ("warning", ".copy", None, HIDDEN, "")),
    "a hidden file of a version": (
        write("1/.model.onnx.Xy1"),
        ("warning", "doubler/1/.model.onnx.Xy1", None, HIDDEN, ""),
    ),
    "a file beside the models": (write("../notes", "x"), ("warning", "notes", None, "no model's folder, and not", "")),
    "a file beside the versions": (
        write("notes", "x"),
        ("warning", "doubler/notes", None, "not looked at: no file that config.pbtxt names", ""),
    ),
    "a file beside the model": (
        write("1/old.onnx", "x"),
        ("warning", "doubler/1/old.onnx", None, "not looked at, and model.onnx does not refer to it", ""),
    ),
    "a label file that is not referenced": (
        configure('label_filename: "labels.txt"', ""),
        (
            *("warning", LABELS, None, "not looked at, since no output in config.pbtxt names it"),
            'label_filename: "labels.txt"',
        ),
    ),
    "a model folder without version": (
        write("../empty/config.pbtxt"),
        ("error", "empty", None, "no version folder; expected ", ""),
    ),
    "a folder of the file system": (
        write("../lost+found/#12"),
        ("warning", "lost+found", None, "holds no version folder and no config.pbtxt: not a model", ""),
    ),
}


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize(("spoil", "expected"), PROBLEMS.values(), ids=PROBLEMS)
def test_each_problem_is_found(
    repository: Path,
    diagnose: Callable[..., list[tuple[Any, ...]]],
    spoil: Callable[[Path], object],
    expected: tuple[str, str, int | None, str, str],
    quick: bool,
) -> None:
    spoil(repository / "doubler")
    (found,) = diagnose(quick=quick)
    assert found[:3] == expected[:3]
    assert found[3].startswith(expected[3])
    assert found[4] == expected[4]


# The same for what only loading tells.
LOADED: dict[str, tuple[Callable[[Path], object], tuple[str, str, int | None, str, str]]] = {
    "a damaged model": (
        lambda folder: ((folder / "1" / "model.onnx").write_bytes(b"x"), (folder / "1" / "card.json").unlink()),
        ("error", MODEL, None, "ONNX Runtime ", ""),
    ),
    "another type": (
        configure('"values" data_type: TYPE_FP32', '"values"\ndata_type: TYPE_UINT8'),
        ("error", CONFIG, 4, "data_type of values is TYPE_UINT8, the model's is TYPE_FP32", "data_type: TYPE_FP32"),
    ),
    "golden samples that are not reproduced": (
        lambda folder: prove(folder / "1", factor=3),
        ("error", "doubler/1/golden.npz", None, "golden outputs differ by up to 1, the tolerance is 1e-05", ""),
    ),
}


@pytest.mark.parametrize(("spoil", "expected"), LOADED.values(), ids=LOADED)
def test_what_only_loading_tells_is_found(
    repository: Path,
    diagnose: Callable[..., list[tuple[Any, ...]]],
    spoil: Callable[[Path], object],
    expected: tuple[str, str, int | None, str, str],
) -> None:
    spoil(repository / "doubler")
    found = [each for each in diagnose() if each[0] == "error"]
    assert [each[:3] for each in found] == [expected[:3]]
    assert found[0][3].startswith(expected[3])
    assert found[0][4] == expected[4]
    assert not [each for each in diagnose(quick=True) if each[0] == "error"]


def test_all_problems_are_found_at_once(
    repository: Path, diagnose: Callable[..., list[tuple[Any, ...]]], model_writer: Callable[..., Path]
) -> None:
    (repository / "doubler" / "config.pbtxt").write_text(
        'nam: "double"\nmax_batch_size: 8\n'
        'input { name: "value"\ndata_type: TYPE_FP32 dims: 4 }\n'
        'output { name: "doubled"\ndata_type: TYPE_FP16\ndims: 5\nlabel_filename: "labels.txt" optional: true }\n'
        'instance_group { kind: KIND_MODEL }\nmetric_tags { key: "a" value: "b" }\n'
    )
    (repository / "doubler" / "labels.txt").write_text("a\n")
    prove(repository / "doubler" / "1", sha256="00" * 32)
    model_writer(repository / "plain" / "1" / "model.onnx")
    (repository / "empty").mkdir()
    first = [found[1:3] for found in diagnose()]
    assert first == [("empty", None), (CONFIG, 1), (CONFIG, 8), (MODEL, None), ("plain/1", None)]

    text = (repository / "doubler" / "config.pbtxt").read_text()
    (repository / "doubler" / "config.pbtxt").write_text(text.replace("optional: true", ""))
    found = [each for each in diagnose() if each[1].startswith("doubler")]
    assert [each[:3] for each in found] == [
        ("error", CONFIG, 1),
        ("error", CONFIG, None),
        ("error", CONFIG, 9),
        ("warning", CONFIG, 10),
        ("error", CONFIG, 3),
        ("error", CONFIG, 6),
        ("error", CONFIG, 7),
        ("error", LABELS, None),
        ("error", MODEL, None),
    ]
    writes = [
        'name: "double"',
        'name: "doubler"',
        "kind: KIND_AUTO",
        'name: "values"',
        "data_type: TYPE_FP32",
        "dims: [ 4 ]",
    ]
    assert [each[4] for each in found if each[4]] == writes


def test_every_version_that_would_be_loaded_is_examined(
    repository: Path, loader: Loader, model_writer: Callable[..., Path]
) -> None:
    """Version 1 is not served, 2 is damaged, 3 is good."""
    folder = repository / "doubler"
    configure("max_batch_size: 8", "max_batch_size: 8 version_policy { latest { num_versions: 2 } }")(folder)
    for version in ("2", "3"):
        shutil.copytree(folder / "1", folder / version)
    for damaged in ("1", "2"):
        (folder / damaged / "model.onnx").write_bytes(b"damaged")
    for quick in (False, True):
        report = examine(repository, loader, quick=quick)
        assert not report.would_serve
        assert {finding.path.parent.name for finding in report.findings} == {"2"}
        assert list(report.models[0].versions) == [3]


def test_a_label_file_that_does_not_fit_is_every_versions_problem(repository: Path, loader: Loader) -> None:
    folder = repository / "doubler"
    configure("max_batch_size: 8", "max_batch_size: 8 version_policy { all { } }")(folder)
    shutil.copytree(folder / "1", folder / "2")
    (folder / "labels.txt").write_text("a\n")
    for quick in (False, True):
        report = examine(repository, loader, quick=quick)
        assert [finding.path.name for finding in report.findings] == ["labels.txt"]
        assert report.models[0].versions == {}


def test_a_missing_card_is_an_error_where_one_is_required(
    repository: Path, diagnose: Callable[..., list[tuple[Any, ...]]]
) -> None:
    (repository / "doubler" / "1" / "card.json").unlink()
    for quick in (False, True):
        (found,) = diagnose(quick=quick, require_card=True)
        assert found[:2] == ("error", "doubler/1")
        assert found[3].startswith("no card.json, and --require-card is on")


def test_a_model_under_another_name_is_pointed_at(
    repository: Path, diagnose: Callable[..., list[tuple[Any, ...]]]
) -> None:
    rename("1/model.onnx", "1/net.onnx")(repository / "doubler")
    for quick in (False, True):
        stray, missing = diagnose(quick=quick)
        assert stray[:2] == ("warning", "doubler/1/net.onnx")
        assert stray[4] == 'default_model_filename: "net.onnx"'
        assert missing[:2] == ("error", MODEL)
        assert missing[3].startswith("no such file")
    with (repository / "doubler" / "config.pbtxt").open("a") as config:
        config.write(stray[4])
    assert diagnose() == []


def test_a_configuration_under_another_name_is_pointed_at(
    repository: Path, diagnose: Callable[..., list[tuple[Any, ...]]]
) -> None:
    rename("config.pbtxt", "config.pbtext")(repository / "doubler")
    stray = diagnose()[0]
    assert stray[:2] == ("warning", "doubler/config.pbtext")
    assert stray[3] == "not looked at; rename it to config.pbtxt"


def test_a_file_that_the_graph_refers_to_is_not_stray(
    repository: Path, diagnose: Callable[..., list[tuple[Any, ...]]]
) -> None:
    move_weights_out(repository / "doubler" / "1" / "model.onnx")
    assert diagnose() == []
    (repository / "doubler" / "1" / "doubled").write_bytes(b"its name is in the graph, which does not refer to it")
    (stray,) = diagnose()
    assert stray[:2] == ("warning", "doubler/1/doubled")


def test_a_graph_in_a_folder_of_its_own_is_examined_as_triton_lays_it_out(
    repository: Path, diagnose: Callable[..., list[tuple[Any, ...]]]
) -> None:
    version = repository / "doubler" / "1"
    (version / "model.onnx").rename(version / "graph")
    (version / "model.onnx").mkdir()
    (version / "graph").rename(version / "model.onnx" / "model.onnx")
    move_weights_out(version / "model.onnx" / "model.onnx")
    assert diagnose() == []
    (version / "model.onnx" / "old.bin").write_bytes(b"?")
    (stray,) = diagnose()
    assert stray[:2] == ("warning", "doubler/1/model.onnx/old.bin")


def test_weights_out_of_the_models_folder_are_an_error(
    repository: Path, diagnose: Callable[..., list[tuple[Any, ...]]]
) -> None:
    move_weights_out(repository / "doubler" / "1" / "model.onnx", "../../weights.bin")
    for quick in (False, True):
        (error,) = [each for each in diagnose(quick=quick) if each[0] == "error"][:1]
        assert error[:2] == ("error", MODEL)
        assert error[3].startswith('its weights are in "../../weights.bin"; expected the name of a file beside')


@pytest.mark.parametrize(
    ("config", "line", "write"),
    [
        pytest.param(
            None,
            None,
            'max_batch_size: 64 dynamic_batching { } output { name: "scores" data_type: TYPE_FP32 dims: [3] '
            'label_filename: "labels.txt" }',
            id="no configuration",
        ),
        pytest.param(
            "max_batch_size: 8\n",
            None,
            'output { name: "scores" data_type: TYPE_FP32 dims: [3] label_filename: "labels.txt" }',
            id="no output",
        ),
        pytest.param(
            'max_batch_size: 8\noutput { name: "scores" data_type: TYPE_FP32 dims: 3 }\n',
            2,
            'label_filename: "labels.txt"',
            id="an output without labels",
        ),
    ],
)
def test_an_image_classifier_without_labels_is_reported(
    tmp_path: Path, graph_writer: Callable[..., Path], loader: Loader, config: str | None, line: int | None, write: str
) -> None:
    folder = tmp_path / "models" / "colours"
    graph_writer(
        folder / "1" / "model.onnx",
        {"image": ("UINT8", ["N", 1, 1, 3])},
        {"scores": ("FLOAT", ["N", 3])},
        ("Cast", "image", "pixels"),
        ("Flatten", "pixels", "scores"),
    )
    # Only the last node has attributes.
    _set_cast(folder / "1" / "model.onnx")
    if config is not None:
        (folder / "config.pbtxt").write_text(config)
    found = [each for each in examine(tmp_path / "models", loader).findings if "labels" in each.problem]
    assert [(each.severity, each.path, each.line, each.write) for each in found] == [
        ("warning", folder / "config.pbtxt", line, write)
    ]
    # The suggestion is correct.
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    text = config or ""
    corrected = text.replace("dims: 3 }", f"dims: 3 {write} }}") if line else f"{text}{write}\n"
    (folder / "config.pbtxt").write_text(corrected)
    report = examine(tmp_path / "models", loader)
    assert report.would_serve
    assert not [each for each in report.findings if "labels" in each.problem]


def _set_cast(path: Path) -> None:
    model = onnx.load(path)
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("to", onnx.TensorProto.FLOAT))
    onnx.save(model, path)


@pytest.mark.parametrize("quick", [False, True])
def test_an_empty_repository_and_none_are_errors(tmp_path: Path, loader: Loader, quick: bool) -> None:
    for path, said in ((tmp_path, "holds no model"), (tmp_path / "none", "No such file or directory")):
        report: Report = examine(path, loader, quick=quick)
        assert not report.would_serve
        (finding,) = report.findings
        assert finding.path == path
        assert said in finding.problem


def test_a_gpu_that_is_asked_for_and_not_there_is_a_finding(
    repository: Path, diagnose: Callable[..., list[tuple[Any, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StartupError("--device cuda: no GPU answers")

    monkeypatch.setattr(Session, "__init__", refuse)
    (found,) = diagnose()
    assert found == ("error", "doubler", None, "--device cuda: no GPU answers", "")


def test_a_folder_that_cannot_be_listed_is_a_finding(
    repository: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root, who may list everything, by a listing that fails."""
    listing = os.listdir

    def refuse(path: Any = ".") -> Any:
        if Path(path).name == "doubler":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "listdir", refuse)
    (finding,) = examine(repository, loader).findings
    assert (finding.severity, finding.path) == ("error", repository)
    assert "holds no model" in finding.problem
    assert "doubler cannot be read: Permission denied" in finding.problem


@pytest.mark.parametrize("quick", [False, True])
def test_whatever_one_model_raises_hides_nothing_of_the_others(
    repository: Path,
    diagnose: Callable[..., list[tuple[Any, ...]]],
    model_writer: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    quick: bool,
) -> None:
    model_writer(repository / "another" / "1" / "model.onnx")

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr(Loader, "examine", fail)
    monkeypatch.setattr(Loader, "load", fail)
    found = [each[:2] + each[3:4] for each in diagnose(quick=quick) if each[0] == "error"]
    said = "unexpected failure: ZeroDivisionError: unforeseen"
    assert found == [("error", "another", said), ("error", "doubler", said)]


@pytest.mark.parametrize("quick", [False, True])
def test_a_name_for_what_is_not_there_hides_nothing_else(
    repository: Path, diagnose: Callable[..., list[tuple[Any, ...]]], quick: bool
) -> None:
    config = repository / "doubler" / "config.pbtxt"
    names = "".join(
        f'parameters {{ key: "{each}" value {{ string_value: "7" }} }}\n' for each in ("stable", "candidate")
    )
    config.write_text(config.read_text() + names)
    (repository / "doubler" / "1" / "card.json").write_text("{}")
    found = diagnose(quick=quick)
    assert [(path, write) for _, path, _, _, write in found if path == "doubler/config.pbtxt"] == [
        ("doubler/config.pbtxt", f'parameters {{ key: "{each}" value {{ string_value: "1" }} }}')
        for each in ("stable", "candidate")
    ]
    assert "doubler/1/card.json" in {path for _, path, _, _, _ in found}
