import numpy as np
import pytest

from pixelserve.figures import SurestError
from pixelserve_training.measuring.evaluate import (
    class_names,
    confusion,
    expected_calibration_error,
    measure,
    measure_regression,
    score_each_class,
)

PROBABILITIES = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.4, 0.6, 0.0], [0.5, 0.3, 0.2]], np.float32)
LABELS = np.array([0, 1, 0, 0])
NAMES = ("cat", "dog", "owl")


def test_accuracy_and_recall_are_counted_by_hand() -> None:
    evaluation = measure(PROBABILITIES, LABELS, NAMES, split="test").evaluation
    assert evaluation.metrics == {"accuracy": 0.75}
    assert evaluation.samples == 4
    # No sample shows an owl, so its recall is unknown rather than 0.
    assert evaluation.per_class_recall == pytest.approx({"cat": 2 / 3, "dog": 1.0})


def test_recall_has_its_samples_and_the_matrix_all_of_them() -> None:
    evaluation = measure(PROBABILITIES, LABELS, NAMES, split="test").evaluation
    assert evaluation.per_class_samples == {"cat": 3, "dog": 1}
    assert evaluation.confusion is not None
    assert evaluation.confusion.labels == list(NAMES)
    assert evaluation.confusion.counts == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_more_labels_than_a_card_shows_have_no_matrix() -> None:
    for classes, has_one in ((64, True), (65, False)):
        figures = measure(np.eye(classes), np.arange(classes), [f"kind {i}" for i in range(classes)], split="test")
        assert (figures.evaluation.confusion is not None) is has_one


def test_the_surest_errors_come_first_and_right_answers_never() -> None:
    scores = np.array([[0.4, 0.6], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.3, 0.7]], np.float32)
    shown = {3: "cGljdHVyZQ=="}
    errors = measure(
        scores, np.array([0, 0, 1, 0, 0]), ("cat", "dog"), split="test", picture_of=shown.get
    ).evaluation.surest_errors
    # Samples 3 and 4 are equally sure.
    assert [each.sample for each in errors] == [3, 4, 0]
    assert errors[0] == SurestError(
        sample=3, label="cat", predicted="dog", probability=float(np.float32(0.7)), picture=shown[3]
    )
    assert [each.picture for each in errors] == [shown[3], None, None]


def test_at_most_sixteen_errors_are_named() -> None:
    scores = np.tile(np.array([[0.4, 0.6]]), (20, 1))
    errors = measure(scores, np.zeros(20, int), ("cat", "dog"), split="test").evaluation.surest_errors
    assert [each.sample for each in errors] == list(range(16))


def test_errors_of_scores_have_no_probability() -> None:
    (error,) = measure(PROBABILITIES * 10 - 3, LABELS, NAMES, split="test").evaluation.surest_errors
    assert (error.sample, error.label, error.predicted, error.probability) == (2, "cat", "dog", None)


def test_reliability_bins_add_up_to_the_calibration_error() -> None:
    calibration = measure(PROBABILITIES, LABELS, NAMES, split="test").calibration
    assert calibration is not None
    filled = {index: each for index, each in enumerate(calibration.reliability) if each.samples}
    # 0.5 is in (7/15, 8/15]; as float32, 0.6 and 0.8 are just above 9/15 and 12/15.
    assert {index: (each.samples, each.accuracy) for index, each in filled.items()} == {
        7: (1, 1.0),
        9: (1, 0.0),
        12: (1, 1.0),
        13: (1, 1.0),
    }
    assert len(calibration.reliability) == calibration.bins == 15
    gaps = [each.samples * abs(each.accuracy - each.confidence) for each in filled.values()]
    assert sum(gaps) / 4 == pytest.approx(calibration.expected_calibration_error)


def test_calibration_error_of_two_bins_is_computed_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False, True, False])
    expected = 4 / 6 * abs(0.75 - 0.95) + 2 / 6 * abs(0.5 - 0.55)
    assert expected_calibration_error(confidence, correct) == pytest.approx(expected)


def test_a_bin_of_the_calibration_error_holds_its_upper_edge() -> None:
    # 0.2 ends the third of 15 bins, where 0.19 lies too.
    confidence, correct = np.array([0.2, 0.19]), np.array([True, False])
    assert expected_calibration_error(confidence, correct) == pytest.approx((0.8 - 0.19) / 2)


@pytest.mark.parametrize(
    ("total", "are_probabilities"), [(1.0009, True), (0.9991, True), (1.0012, False), (0.95, False)]
)
def test_probabilities_add_up_to_1_within_a_thousandth(total: float, are_probabilities: bool) -> None:
    figures = measure(PROBABILITIES.astype(np.float64) * total, LABELS, NAMES, split="test")
    assert (figures.calibration is not None) == are_probabilities


def test_certain_and_right_predictions_have_no_calibration_error() -> None:
    assert expected_calibration_error(np.ones(3), np.ones(3, bool)) == 0.0


def test_baseline_holds_shares_of_predictions_and_confidence() -> None:
    baseline = measure(PROBABILITIES, LABELS, NAMES, split="test").baseline
    assert baseline is not None
    assert baseline.predicted_classes == {"cat": 0.5, "dog": 0.5, "owl": 0.0}
    assert len(baseline.confidence) == 20
    assert sum(baseline.confidence) == pytest.approx(1)
    assert baseline.confidence[10] == 0.25


def test_logits_have_accuracy_but_no_calibration() -> None:
    figures = measure(PROBABILITIES * 10 - 3, LABELS, NAMES, split="test")
    assert figures.accuracy == 0.75
    assert figures.calibration is None
    assert figures.baseline is None


def test_a_single_score_tells_two_classes_apart_at_a_half() -> None:
    scores = np.array([[0.9], [0.2], [0.7], [0.1]], np.float32)
    figures = measure(scores, np.array([1, 0, 0, 0]), ("spam",), split="test")
    assert figures.accuracy == 0.75
    assert figures.evaluation.per_class_recall == {"not spam": pytest.approx(2 / 3), "spam": 1.0}


def test_confusion_has_a_row_for_each_true_label() -> None:
    counts = confusion(PROBABILITIES, LABELS)
    assert counts.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_confusion_of_a_single_score_tells_two_classes_apart() -> None:
    counts = confusion(np.array([[0.9], [0.2], [0.7], [0.5]], np.float32), np.array([1, 0, 0, 0]))
    assert counts.tolist() == [[2, 1], [0, 1]]
    assert class_names(("spam",)) == ("not spam", "spam")


def test_a_regressions_error_is_told_beside_that_of_least_squares() -> None:
    inputs, targets = np.array([[0.0], [1.0], [2.0]]), np.array([0.0, 1.0, 5.0])
    figures = measure_regression(np.array([[0.0], [1.0], [2.0]], np.float32), targets, split="training", inputs=inputs)
    # The best line is 2.5 x − 0.5, which is off by 0.5, 1 and 0.5.
    assert figures.evaluation.metrics == {
        "mean_squared_error": pytest.approx(3.0),
        "least_squares_mean_squared_error": pytest.approx(0.5),
    }
    assert (figures.evaluation.split, figures.evaluation.samples) == ("training", 3)


def test_a_regression_without_its_inputs_has_its_own_error_alone() -> None:
    figures = measure_regression(np.zeros((2, 1)), np.array([1.0, 3.0]), split="samples")
    assert figures.evaluation.metrics == {"mean_squared_error": 5.0}


def test_a_single_score_of_two_classes_becomes_one_of_each() -> None:
    single = np.array([[0.25], [1.0]])
    assert score_each_class(single, ("false", "true")).tolist() == [[0.75, 0.25], [0.0, 1.0]]
    # A single label's stays: `measure` knows that it is whether the sample is that. A regression has no labels.
    assert score_each_class(single, ("spam",)) is single
    assert score_each_class(single, ()) is single
