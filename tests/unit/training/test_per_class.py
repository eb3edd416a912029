"""Precision, recall, F1 and balanced accuracy, compared with scikit-learn's, and their intervals."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support

from pixelserve.interval import wilson
from pixelserve_training.measuring.evaluate import confusion, measure
from pixelserve_training.measuring.per_class import per_class

NAMES = ("cat", "dog", "owl")
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.choice(3, 200, p=[0.8, 0.15, 0.05])
SCORES = RANDOM.dirichlet(np.ones(3), 200) + 0.6 * np.eye(3)[LABELS]


def test_the_figures_are_scikit_learns() -> None:
    found = per_class(confusion(SCORES, LABELS))
    predicted = SCORES.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(LABELS, predicted)
    assert [each.precision for each in found.classes] == pytest.approx(precision)
    assert [each.recall for each in found.classes] == pytest.approx(recall)
    assert [each.f1 for each in found.classes] == pytest.approx(f1)
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(LABELS, predicted))
    assert found.macro_f1 == pytest.approx(f1.mean())


def test_intervals_of_shares_are_wilsons_and_the_others_hold_their_figure() -> None:
    counts = confusion(SCORES, LABELS)
    found = per_class(counts)
    assert found.classes[1].recall_interval == wilson(int(counts[1, 1]), int(counts[1].sum()))
    assert found.classes[1].precision_interval == wilson(int(counts[1, 1]), int(counts[:, 1].sum()))
    for each in found.classes:
        assert each.f1_interval is not None
        assert each.f1 is not None
        assert each.f1_interval[0] < each.f1 < each.f1_interval[1]
    low, high = found.balanced_accuracy_interval
    assert low < found.balanced_accuracy < high


def test_the_bootstrap_is_about_as_wide_as_theory_says_and_the_same_each_time() -> None:
    counts = np.array([[900, 100], [100, 900]])
    low, high = per_class(counts).balanced_accuracy_interval
    # Two independent recalls of 1,000 samples each.
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.9 * 0.1 / 1000 / 2), rel=0.1)
    assert per_class(counts).balanced_accuracy_interval == (low, high)


def test_a_class_without_samples_or_predictions_has_no_figure_and_does_not_count() -> None:
    found = per_class(np.array([[5, 0, 0], [5, 0, 0], [0, 0, 0]]))
    assert (found.classes[1].precision, found.classes[1].recall, found.classes[1].f1) == (None, 0.0, 0.0)
    assert (found.classes[2].precision, found.classes[2].recall, found.classes[2].f1) == (None, None, None)
    assert found.classes[2].f1_interval is None
    assert found.balanced_accuracy == 0.5


def test_an_evaluation_has_them_by_label() -> None:
    evaluation = measure(SCORES, LABELS, NAMES, split="test").evaluation
    assert tuple(evaluation.per_class) == NAMES
    found = per_class(confusion(SCORES, LABELS))
    assert evaluation.per_class["owl"].f1 == found.classes[2].f1
    assert evaluation.balanced_accuracy == found.balanced_accuracy
    assert evaluation.balanced_accuracy_interval == found.balanced_accuracy_interval
