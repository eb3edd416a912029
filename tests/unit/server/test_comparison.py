"""Two versions side by side, on the same samples."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pixelserve.golden import Golden, write_golden
from pixelserve.scores import parameter
from pixelserve_server.errors import RepositoryError
from pixelserve_server.tools.comparison import compare

ROWS = np.array([[1, 2, 3, 4], [4, 3, 2, 1], [0, 5, 0, 0]], np.float32)
TENSOR = ("FLOAT", ["N", 4])


def write_samples(version: Path, rows: np.ndarray, output: str = "doubled") -> None:
    write_golden(version / "golden.npz", Golden({"values": rows}, {output: rows}))


@pytest.fixture
def model(tmp_path: Path, model_writer: Callable[..., Path], graph_writer: Callable[..., Path]) -> Path:
    """Model `a`: version 1 doubles, version 2 negates, 3 doubles again."""
    for version in (1, 3):
        model_writer(tmp_path / "a" / str(version) / "model.onnx")
    graph_writer(tmp_path / "a/2/model.onnx", {"values": TENSOR}, {"doubled": TENSOR}, ("Neg", "values", "doubled"))
    return tmp_path / "a"


def test_versions_that_compute_the_same_agree(tmp_path: Path, model: Path) -> None:
    write_samples(model / "1", ROWS)
    found = compare(tmp_path, "a", "1", "3")
    assert found.agreement is not None
    assert (found.agreement.samples, found.agreement.same_labels, found.agreement.largest_difference) == (3, 3, 0)


def test_different_versions_are_reported_by_labels_and_values(tmp_path: Path, model: Path) -> None:
    write_samples(model / "1", ROWS)
    found = compare(tmp_path, "a", "1", "2")
    assert found.agreement is not None
    # The greatest of a row and of its negative are never the same; 2 * 5 and -5 lie farthest from each other.
    assert (found.agreement.samples, found.agreement.same_labels, found.agreement.largest_difference) == (3, 0, 15)


def test_one_number_for_two_classes_tells_the_label(tmp_path: Path, graph_writer: Callable[..., Path]) -> None:
    tensor = ("FLOAT", ["N", 1])
    for version, operator in ((1, "Identity"), (2, "Neg")):
        graph_writer(tmp_path / f"b/{version}/model.onnx", {"x": tensor}, {"y": tensor}, (operator, "x", "y"))
    output = 'output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] label_filename: "labels.txt" }'
    (tmp_path / "b" / "config.pbtxt").write_text(f"max_batch_size: 8\n{output}\n{parameter('logits')}")
    (tmp_path / "b" / "labels.txt").write_text("cat\ndog\n")
    logits = np.array([[2], [-1], [0]], np.float32)
    write_golden(tmp_path / "b/1/golden.npz", Golden({"x": logits}, {"y": logits}))
    found = compare(tmp_path, "b", "1", "2").agreement
    assert found is not None
    # Only the logit of 0 has the same sign in both, and so the same label.
    assert (found.samples, found.same_labels, found.largest_difference) == (3, 1, 4)


def test_samples_of_both_count_once(tmp_path: Path, model: Path) -> None:
    write_samples(model / "1", ROWS)
    write_samples(model / "3", np.concatenate([ROWS[:2], ROWS[:1] + 1]))
    found = compare(tmp_path, "a", "1", "3")
    assert found.agreement is not None
    assert found.agreement.samples == 4


def test_which_versions_are_compared_where_none_is_said(tmp_path: Path, model: Path) -> None:
    def chosen(text: str, *asked: str) -> list[int]:
        (model / "config.pbtxt").write_text(f"max_batch_size: 8 {text}")
        return [side.version for side in compare(tmp_path, "a", *asked).sides]

    stable, candidate = ('parameters {{ key: "{}" value {{ string_value: "{}" }} }}'.format(*each) for each in NAMES)
    assert chosen("") == [2, 3]
    assert chosen(stable) == [1, 3]
    assert chosen(stable + candidate) == [1, 2]
    assert chosen(stable + candidate, "candidate", "3") == [2, 3]
    assert chosen(stable, "2") == [2, 3]


NAMES = (("stable", 1), ("candidate", 2))


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        pytest.param(lambda model: None, "neither version has a golden.npz", id="no samples"),
        pytest.param(
            lambda model: (model / "1/golden.npz").write_bytes(b"x"), "cannot be read as golden", id="damaged"
        ),
        pytest.param(lambda model: write_samples(model / "1", ROWS[:, :2]), "cannot run its golden", id="other shape"),
    ],
)
def test_why_nothing_was_computed(tmp_path: Path, model: Path, prepare: Callable[[Path], object], said: str) -> None:
    prepare(model)
    found = compare(tmp_path, "a", "1", "2")
    assert found.agreement is None
    assert said in found.reason


def test_versions_with_other_outputs_are_not_compared(
    tmp_path: Path, model: Path, model_writer: Callable[..., Path]
) -> None:
    model_writer(model / "3" / "model.onnx", output="twice")
    write_samples(model / "1", ROWS)
    assert "the versions give different outputs" in compare(tmp_path, "a", "1", "3").reason


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        ("none", "1", 'no model "none"'),
        ("a", "4", 'no version "4"; it has 1, 2, 3'),
        ("a", "stable", 'no version "stable"'),
        ("a", "²", "no version"),
    ],
)
def test_what_is_not_there(tmp_path: Path, model: Path, name: str, version: str, said: str) -> None:
    with pytest.raises(RepositoryError, match=said):
        compare(tmp_path, name, version)


def test_a_single_version_has_no_other(tmp_path: Path, model_writer: Callable[..., Path]) -> None:
    model_writer(tmp_path / "b" / "1" / "model.onnx")
    with pytest.raises(RepositoryError, match="has 1 versions; expected two"):
        compare(tmp_path, "b")
