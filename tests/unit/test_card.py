"""The card, its golden samples, and their replay."""

import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve import card as card_module
from pixelserve.card import (
    UNLISTED_TOLERANCE,
    Card,
    CardError,
    DataSet,
    Golden,
    GoldenMismatchError,
    Parity,
    Reference,
    largest_difference,
    read_card,
    read_golden,
    replay,
    sha256_of,
    verify_model_file,
    write_golden,
)
from pixelserve.figures import Calibration, Confusion, Evaluation, ReliabilityBin, SurestError

MIB = 1 << 20
IMAGES = np.arange(2 * 3, dtype=np.uint8).reshape(2, 3)
MEASURED = {"split": "test", "samples": 1, "metrics": {}}
ERROR = {"sample": 0, "label": "a", "predicted": "b"}
SCORES = np.array([[0.25, 0.75], [1.0, 0.0]], dtype=np.float32)


def card(**changes: Any) -> Card:
    return Card.model_validate(
        {"name": "digits", "task": "image", "sha256": "ab" * 32, "created": "2026-01-02T03:04:05Z", **changes}
    )


def golden(scores: Any = SCORES) -> Golden:
    return Golden({"image": IMAGES}, {"scores": np.asarray(scores)})


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


def test_golden_samples_that_are_written_and_read_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    write_golden(path, golden())
    read = read_golden(path)
    assert read.samples == 2
    assert list(read.inputs) == ["image"]
    assert list(read.outputs) == ["scores"]
    np.testing.assert_array_equal(read.inputs["image"], IMAGES, strict=True)
    np.testing.assert_array_equal(read.outputs["scores"], SCORES, strict=True)


def test_a_tensor_name_may_contain_a_slash(tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    write_golden(path, Golden({"in/put": IMAGES}, {"a/b/c": SCORES}))
    read = read_golden(path)
    assert [*read.inputs, *read.outputs] == ["in/put", "a/b/c"]


def test_golden_strings_are_written_without_pickles_and_read_as_a_runtime_gives_them(tmp_path: Path) -> None:
    towns = np.array(["Cork", "Zürich"], dtype=object)
    write_golden(tmp_path / "golden.npz", Golden({"town": towns}, {"label": towns}))
    read = read_golden(tmp_path / "golden.npz")
    assert read.inputs["town"].dtype == read.outputs["label"].dtype == object
    assert replay(read, lambda inputs: {"label": inputs["town"]}, tolerance=0) == 0


def test_golden_samples_cut_off_anywhere_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    write_golden(path, golden())
    whole = path.read_bytes()
    for length in (*range(0, len(whole), 7), len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CardError, match=r"golden\.npz: .*export the model again"):
            read_golden(path)


@pytest.mark.parametrize(
    "arrays",
    [
        pytest.param({"image": IMAGES, "outputs/scores": SCORES}, id="a key without a group"),
        pytest.param({"inputs/image": IMAGES, "extras/scores": SCORES}, id="a key of another group"),
        pytest.param({"inputs/image": IMAGES}, id="no outputs"),
        pytest.param({"outputs/scores": SCORES}, id="no inputs"),
        pytest.param({}, id="nothing"),
        pytest.param({"inputs/image": IMAGES, "outputs/scores": SCORES[:1]}, id="unequal lengths"),
        pytest.param({"inputs/image": IMAGES[:0], "outputs/scores": SCORES[:0]}, id="no samples"),
        pytest.param({"inputs/image": np.float32(1), "outputs/scores": np.float32(1)}, id="scalars"),
    ],
)
def test_arrays_that_are_no_golden_samples_are_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    path = tmp_path / "golden.npz"
    np.savez(path, **arrays)
    with pytest.raises(CardError, match=r"golden\.npz: .*export the model again"):
        read_golden(path)


def test_golden_samples_that_hold_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    np.savez(path, **{"inputs/image": np.array([print, print]), "outputs/scores": SCORES})
    with pytest.raises(CardError, match=r"golden\.npz"):
        read_golden(path)


def test_golden_samples_that_unpack_to_too_much_are_refused_with_the_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_module, "GOLDEN_BYTES", 8 * MIB)
    path = tmp_path / "golden.npz"
    np.savez_compressed(path, **{"inputs/x": np.zeros((9, MIB), "u1"), "outputs/y": np.zeros((9, 1), "f4")})
    with pytest.raises(CardError, match=r"golden\.npz: .* unpacks to 9,437,476 bytes; at most 8,388,608 are read"):
        read_golden(path)


def test_more_golden_samples_than_are_replayed_are_refused_and_never_written(tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    samples = np.zeros((1025, 1), "f4")
    np.savez(path, **{"inputs/x": samples, "outputs/y": samples})
    with pytest.raises(CardError, match="1,025 samples; at most 1,024 are replayed"):
        read_golden(path)
    write_golden(path, Golden({"x": samples}, {"y": samples}))
    assert read_golden(path).samples == 1024


def test_of_large_golden_samples_as_many_are_written_as_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_module, "GOLDEN_BYTES", 8 * MIB)
    path = tmp_path / "golden.npz"
    large = np.zeros((9, MIB), "u1")
    write_golden(path, Golden({"x": large}, {"y": large[:, :1]}))
    assert read_golden(path).samples == 6
    with pytest.raises(CardError, match="a golden sample has 9,437,185 bytes; at most 8,388,608 are read"):
        write_golden(path, Golden({"x": large.reshape(1, -1)}, {"y": large[:1, :1]}))


def test_a_card_that_is_too_large_is_refused_and_never_written(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    with path.open("wb") as file:
        file.truncate(200 << 20)
    with pytest.raises(CardError, match=r"card\.json: .* 209,715,200 bytes; at most 4,194,304 are read"):
        read_card(path)
    with pytest.raises(CardError, match="at most 4,194,304 are read"):
        Card(name="x", task="image", sha256="0", created="now", recipe="r" * (4 << 20)).write(path)


def test_outputs_are_compared_sample_by_sample() -> None:
    expected = np.zeros((64, MIB // 8), "f4")
    found = expected.copy()
    found[40, 7] = 3
    tracemalloc.start()
    assert largest_difference(found, expected) == 3
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < expected.nbytes / 4


def test_replay_runs_the_golden_inputs_and_returns_the_largest_difference() -> None:
    found = SCORES + np.array([[0.125, 0.0], [0.0, -0.25]], dtype=np.float32)
    seen: list[Any] = []

    def infer(inputs: Any) -> Any:
        seen.append(inputs)
        return {"scores": found, "another": IMAGES}

    assert replay(golden(), infer, 0.25) == 0.25
    np.testing.assert_array_equal(seen[0]["image"], IMAGES)


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("expected", "found", "accepted"),
    [
        pytest.param([1.0], [1.0], True, id="equal"),
        pytest.param([1.0], [1.125], True, id="at the tolerance"),
        pytest.param([1.0], [1.25], False, id="above the tolerance"),
        pytest.param([1.0], [0.75], False, id="below"),
        pytest.param([0.0], [NAN], False, id="NaN for a number"),
        pytest.param([NAN], [0.0], False, id="a number for NaN"),
        pytest.param([INF], [INF], True, id="equal infinities"),
        pytest.param([-INF], [-INF], True, id="equal negative infinities"),
        pytest.param([INF], [-INF], False, id="opposite infinities"),
        pytest.param([INF], [1.0], False, id="a number for infinity"),
        pytest.param([1.0, 1.0], [1.0, NAN], False, id="one NaN among good ones"),
        pytest.param(["seven"], ["seven"], True, id="equal strings"),
        pytest.param(["seven"], ["one"], False, id="other strings"),
    ],
)
def test_replay_accepts_what_is_within_the_tolerance(expected: Any, found: Any, accepted: bool) -> None:
    samples = Golden({"image": IMAGES[: len(expected)]}, {"scores": np.asarray(expected)})
    try:
        replay(samples, lambda _: {"scores": np.asarray(found)}, 0.125)
    except GoldenMismatchError:
        assert not accepted
    else:
        assert accepted


def test_differences_of_unsigned_outputs_do_not_wrap() -> None:
    white, black = np.array([255], dtype=np.uint8), np.array([0], dtype=np.uint8)
    with pytest.raises(GoldenMismatchError, match="differ by up to 255, the tolerance is 2"):
        replay(golden(white), lambda _: {"scores": black}, 2)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        pytest.param({}, "no such output", id="missing"),
        pytest.param({"other": SCORES}, "no such output", id="under another name"),
        pytest.param({"scores": SCORES.T[:1]}, r"\(1, 2\)", id="another shape"),
        pytest.param({"scores": SCORES[0]}, r"\(2,\)", id="one that would broadcast"),
    ],
)
def test_replay_refuses_an_output_that_is_missing_or_has_another_shape(outputs: dict[str, Any], said: str) -> None:
    with pytest.raises(GoldenMismatchError, match=rf"output scores: the golden shape is \(2, 2\), .*{said}"):
        replay(golden(), lambda _: outputs, 1e9)
