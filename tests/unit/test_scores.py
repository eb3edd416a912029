"""The meaning of a classifier's scores, and their conversion to probabilities."""

import numpy as np
import pytest

from pixelserve.scores import (
    OUTPUT_KINDS,
    OutputKind,
    are_finite,
    as_probabilities,
    contradict,
    each_class,
    look_like_probabilities,
)


def probabilities(values: list[list[float]], kind: OutputKind, labels: int = 0) -> np.ndarray:
    return as_probabilities(each_class(np.array(values, np.float32), kind, labels), kind)


def test_a_softmax_makes_logits_probabilities() -> None:
    found = probabilities([[0, 0], [np.log(3), 0], [1000, 0], [-1000, -1000]], "logits")
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.75, 0.25], [1, 0], [0.5, 0.5]], atol=1e-7)


def test_logarithms_of_probabilities_are_logits() -> None:
    given = np.array([[0.7, 0.2, 0.1]])
    np.testing.assert_allclose(as_probabilities(each_class(np.log(given), "logits", 3), "logits"), given)


@pytest.mark.parametrize("kind", ["probabilities", "sigmoids", "scores"])
def test_other_numbers_stay_as_they_are(kind: OutputKind) -> None:
    np.testing.assert_array_equal(probabilities([[0.25, 0.5, 0.125]], kind, 3), [[0.25, 0.5, 0.125]])


def test_rounding_makes_no_probability_of_more_than_1() -> None:
    assert probabilities([[1.0000001, -1e-9]], "probabilities").tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("kind", "value", "classes"),
    [
        pytest.param("probabilities", 0.75, [0.25, 0.75], id="probability"),
        pytest.param("sigmoids", 0.75, [0.25, 0.75], id="sigmoid"),
        pytest.param("logits", np.log(3), [0.25, 0.75], id="logit"),
        pytest.param("scores", 2.5, [-2.5, 2.5], id="score"),
        pytest.param("scores", -2.5, [2.5, -2.5], id="score below 0"),
    ],
)
def test_one_number_speaks_for_the_second_of_two_classes(kind: OutputKind, value: float, classes: list[float]) -> None:
    np.testing.assert_allclose(probabilities([[value]], kind, 2), [classes], rtol=1e-6)


def test_one_logit_is_that_of_a_class_against_its_absence() -> None:
    np.testing.assert_allclose(probabilities([[np.log(3)], [-800]], "logits", 1), [[0.75], [0]], rtol=1e-6)


@pytest.mark.parametrize("labels", [0, 1])
def test_one_number_without_two_labels_stays_one(labels: int) -> None:
    assert probabilities([[0.75]], "sigmoids", labels).tolist() == [[0.75]]


@pytest.mark.parametrize("kind", OUTPUT_KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_cannot_be_read_is_not_finite_and_the_others_are(kind: OutputKind, bad: float) -> None:
    found = probabilities([[0.5, 0.5], [bad, 0], [bad, bad]], kind)
    assert are_finite(found).tolist() == [True, False, False]


def test_a_logit_of_minus_infinity_rules_a_class_out() -> None:
    assert probabilities([[0, -np.inf, 0]], "logits").tolist() == [[0.5, 0, 0.5]]
    assert not are_finite(probabilities([[-np.inf, -np.inf]], "logits")).any()


@pytest.mark.parametrize("kind", OUTPUT_KINDS)
def test_only_what_has_to_be_within_0_and_1_is_contradicted_by_what_is_not(kind: OutputKind) -> None:
    rows = np.array([[0.2, 0.9], [1.005, -0.005], [1.2, 0], [0.5, -0.2], [np.nan, 7]])
    outside = [False, False, True, True, False]
    assert contradict(rows, kind).tolist() == (outside if kind in ("probabilities", "sigmoids") else [False] * 5)


@pytest.mark.parametrize(
    ("row", "labels", "looks"),
    [
        pytest.param([0.2, 0.3, 0.5], 3, True, id="probabilities"),
        pytest.param([0.2, 0.3, 0.495], 0, True, id="rounded ones"),
        pytest.param([0.2, 0.3, 0.4], 3, False, id="another sum"),
        pytest.param([1.5, -0.5, 0.0], 3, False, id="below 0"),
        pytest.param([np.nan, 0.5, 0.5], 3, False, id="nan"),
        pytest.param([0.7], 2, True, id="one number for two classes"),
        pytest.param([1.7], 2, False, id="one logit for two classes"),
        pytest.param([0.7], 0, False, id="one number"),
    ],
)
def test_what_looks_like_probabilities(row: list[float], labels: int, looks: bool) -> None:
    assert look_like_probabilities(np.array([row], np.float32), labels).tolist() == [looks]
