"""Golden samples: written, read within their bounds, and replayed."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve import golden as golden_module
from pixelserve.card import CardError
from pixelserve.golden import Golden, GoldenMismatchError, largest_difference, read_golden, replay, write_golden

MIB = 1 << 20
IMAGES = np.arange(2 * 3, dtype=np.uint8).reshape(2, 3)
SCORES = np.array([[0.25, 0.75], [1.0, 0.0]], dtype=np.float32)


def golden(scores: Any = SCORES) -> Golden:
    return Golden({"image": IMAGES}, {"scores": np.asarray(scores)})


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
    monkeypatch.setattr(golden_module, "GOLDEN_BYTES", 8 * MIB)
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
    monkeypatch.setattr(golden_module, "GOLDEN_BYTES", 8 * MIB)
    path = tmp_path / "golden.npz"
    large = np.zeros((9, MIB), "u1")
    write_golden(path, Golden({"x": large}, {"y": large[:, :1]}))
    assert read_golden(path).samples == 6
    with pytest.raises(CardError, match="a golden sample has 9,437,185 bytes; at most 8,388,608 are read"):
        write_golden(path, Golden({"x": large.reshape(1, -1)}, {"y": large[:1, :1]}))


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
