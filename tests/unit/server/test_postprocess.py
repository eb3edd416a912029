"""The classification extension: a row's best classes in Triton's format."""

import numpy as np
import pytest

from pixelserve_server.engine.postprocess import top_classes


@pytest.mark.parametrize(
    ("scores", "k", "best"),
    [
        pytest.param([0.25, 0.5, 0.125], 3, [b"0.500000:1", b"0.250000:0", b"0.125000:2"], id="best first"),
        pytest.param([0.25, 0.5, 0.125], 1, [b"0.500000:1"], id="only as many as asked for"),
        pytest.param([0.25, 0.5], 9, [b"0.500000:1", b"0.250000:0"], id="no more than there are"),
        pytest.param([1, 3, 3, 1, 3], 4, [b"3.000000:1", b"3.000000:2", b"3.000000:4", b"1.000000:0"], id="ties"),
        pytest.param([-2.0, -0.5], 2, [b"-0.500000:1", b"-2.000000:0"], id="negative scores"),
        pytest.param([1e-7, 1234567.0], 2, [b"1234567.000000:1", b"0.000000:0"], id="six decimals, no exponent"),
        pytest.param([float("-inf"), float("inf")], 2, [b"inf:1", b"-inf:0"], id="infinities"),
    ],
)
def test_classes_come_best_first_and_equal_ones_in_order(scores: list[float], k: int, best: list[bytes]) -> None:
    assert top_classes(np.array([scores], dtype=np.float64), k, ()) == [best]


@pytest.mark.parametrize("dtype", ["f2", "f4", "u1", "i1", "i8", "u8", "?"])
def test_scores_may_have_any_real_type(dtype: str) -> None:
    scores = np.array([[0, 1]], dtype=dtype)
    assert top_classes(scores, 2, ()) == [[b"1.000000:1", b"0.000000:0"]]


def test_unsigned_scores_are_not_negated_into_their_opposite() -> None:
    assert top_classes(np.array([[0, 200, 100]], dtype=np.uint8), 3, ()) == [
        [b"200.000000:1", b"100.000000:2", b"0.000000:0"]
    ]


def test_each_row_has_its_own_best_classes() -> None:
    scores = np.array([[0.75, 0.25], [0.25, 0.75]])
    assert top_classes(scores, 1, ()) == [[b"0.750000:0"], [b"0.750000:1"]]


def test_labels_follow_their_index() -> None:
    assert top_classes(np.array([[0.25, 0.75]]), 2, ("cat", "dög")) == [["0.750000:1:dög".encode(), b"0.250000:0:cat"]]


def test_a_class_beyond_the_labels_has_no_label() -> None:
    assert top_classes(np.array([[0.25, 0.75]]), 2, ("cat",)) == [[b"0.750000:1", b"0.250000:0:cat"]]


def test_one_number_for_two_classes_has_neither_ones_label() -> None:
    assert top_classes(np.array([[0.75]]), 2, ("cat", "dog")) == [[b"0.750000:0"]]


def test_many_ties_stay_in_index_order() -> None:
    (row,) = top_classes(np.tile([0.0, 1.0], (1, 500)), 1000, ())
    assert [int(element.split(b":")[1]) for element in row] == [*range(1, 1000, 2), *range(0, 1000, 2)]
