"""The card: written, read, and refused by the field."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pixelserve.card import (
    UNLISTED_TOLERANCE,
    Card,
    CardError,
    DataSet,
    Parity,
    Reference,
    read_card,
    sha256_of,
    verify_model_file,
)
from pixelserve.figures import Calibration, Confusion, Evaluation, ReliabilityBin, SurestError

MEASURED = {"split": "test", "samples": 1, "metrics": {}}
ERROR = {"sample": 0, "label": "a", "predicted": "b"}


def card(**changes: Any) -> Card:
    return Card.model_validate(
        {"name": "digits", "task": "image", "sha256": "ab" * 32, "created": "2026-01-02T03:04:05Z", **changes}
    )


def test_a_card_that_is_written_and_read_is_the_same(tmp_path: Path) -> None:
    written = card(
        reference=Reference(framework="keras", version="3.8"),
        dataset=DataSet(name="MNIST", sha256="cd" * 32),
        evaluation=Evaluation(
            split="test",
            samples=10_000,
            metrics={"accuracy": 0.99},
            per_class_recall={"7": 1.0},
            per_class_samples={"7": 1028},
            confusion=Confusion(labels=["[\n1", "7"], counts=[[0, 1], [2, 3]]),
            surest_errors=[SurestError(sample=12, label="7", predicted="1", probability=0.9, picture="cGljdHVyZQ==")],
        ),
        calibration=Calibration(
            expected_calibration_error=0.01,
            bins=1,
            reliability=[ReliabilityBin(samples=4, confidence=0.5, accuracy=0.75)],
        ),
        parity=[Parity(precision="float32", provider="CPUExecutionProvider", tolerance=1e-5, max_abs_error=1e-7)],
        parameters=93_322,
        seed=1,
        versions={"keras": "3.8"},
    )
    written.write(tmp_path / "card.json")
    assert read_card(tmp_path / "card.json") == written


def test_numbers_of_an_array_share_a_line(tmp_path: Path) -> None:
    confusion = Confusion(labels=["cat", "dog"], counts=[[12, 0], [3, 4]])
    card(evaluation=Evaluation(split="test", samples=19, metrics={}, confusion=confusion)).write(tmp_path / "card.json")
    lines = (tmp_path / "card.json").read_text().splitlines()
    assert [line.strip() for line in lines if line.strip().startswith("[")] == ["[12, 0],", "[3, 4]"]


def test_a_card_from_before_the_confusion_matrix_is_read(tmp_path: Path) -> None:
    older = {"split": "test", "samples": 10, "metrics": {"accuracy": 0.9}, "per_class_recall": {"7": 1.0}}
    path = tmp_path / "card.json"
    path.write_text(json.dumps(card().model_dump(mode="json") | {"evaluation": older}))
    evaluation = read_card(path).evaluation
    assert evaluation is not None
    assert (evaluation.per_class_samples, evaluation.confusion, evaluation.surest_errors) == ({}, None, [])


def test_a_task_may_be_unknown() -> None:
    assert card(task="unknown").task == "unknown"


def test_a_field_from_a_newer_minor_revision_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text(json.dumps(card().model_dump(mode="json") | {"mood": "good"}))
    assert read_card(path) == card()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"task": "poetry"}, "task", id="unknown task"),
        pytest.param({"schema_version": 2}, "schema_version", id="newer schema"),
        pytest.param({"sha256": None}, "sha256", id="no hash"),
        pytest.param({"evaluation": {"split": "test", "samples": 0, "metrics": {}}}, "evaluation.samples", id="nested"),
        pytest.param(
            {"evaluation": {**MEASURED, "confusion": {"labels": ["a", "b"], "counts": [[1, 2], [3]]}}},
            "evaluation.confusion",
            id="a matrix that is not square",
        ),
        pytest.param(
            {"evaluation": {**MEASURED, "confusion": {"labels": ["a"], "counts": [[-1]]}}},
            "evaluation.confusion.counts.0.0",
            id="a negative count",
        ),
        pytest.param(
            {"evaluation": {**MEASURED, "confusion": {"labels": ["a"] * 65, "counts": [[0] * 65] * 65}}},
            "evaluation.confusion.labels",
            id="too many labels",
        ),
        pytest.param(
            {"evaluation": {**MEASURED, "surest_errors": [ERROR] * 17}},
            "evaluation.surest_errors",
            id="too many errors",
        ),
        pytest.param(
            {"evaluation": {**MEASURED, "surest_errors": [{**ERROR, "picture": "A" * 4097}]}},
            "evaluation.surest_errors.0.picture",
            id="too large a picture",
        ),
        pytest.param(
            {"evaluation": {**MEASURED, "surest_errors": [{**ERROR, "picture": "http://example.com"}]}},
            "evaluation.surest_errors.0.picture",
            id="an address as a picture",
        ),
        pytest.param(
            {"parity": [{"precision": "float32", "provider": "p", "tolerance": 0}]},
            "parity.0.tolerance",
            id="in a list",
        ),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, changes: dict[str, object], field: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(json.dumps(card().model_dump(mode="json") | changes))
    with pytest.raises(CardError) as caught:
        read_card(path)
    assert str(caught.value).startswith(f"{path}: {field}: ")


def test_a_file_that_is_not_json_is_wrong_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(b"\xffnot json")
    with pytest.raises(CardError, match=r"card\.json: the whole file: .*export the model again"):
        read_card(path)


def test_the_hash_is_of_the_files_bytes(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights")
    assert sha256_of(path) == hashlib.sha256(b"weights").hexdigest()


def test_the_file_that_the_card_describes_passes(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights")
    verify_model_file(card(sha256=sha256_of(path)), path)


def test_another_file_than_the_card_describes_is_refused_with_both_hashes(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights")
    described = card(sha256=sha256_of(path))
    path.write_bytes(b"Weights")
    with pytest.raises(CardError) as caught:
        verify_model_file(described, path)
    assert sha256_of(path)[:12] in str(caught.value)
    assert described.sha256[:12] in str(caught.value)


def test_a_listed_provider_has_its_own_tolerance_and_an_unlisted_one_the_default() -> None:
    listed = card(parity=[{"precision": "float32", "provider": "CPUExecutionProvider", "tolerance": 1e-5}])
    assert listed.tolerance("CPUExecutionProvider") == 1e-5
    assert listed.tolerance("CUDAExecutionProvider") == UNLISTED_TOLERANCE


def test_a_card_that_is_too_large_is_refused_and_never_written(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    with path.open("wb") as file:
        file.truncate(200 << 20)
    with pytest.raises(CardError, match=r"card\.json: .* 209,715,200 bytes; at most 4,194,304 are read"):
        read_card(path)
    with pytest.raises(CardError, match="at most 4,194,304 are read"):
        Card(name="x", task="image", sha256="0", created="now", recipe="r" * (4 << 20)).write(path)
