"""Predictions are counted, and compared with the card."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from pixelserve.figures import Baseline
from pixelserve.scores import OutputKind
from pixelserve_server.engine.scores import ScoreReader
from pixelserve_server.engine.tensors import BY_NAME, FREE, TensorSpec
from pixelserve_server.observe.predictions import Predictions, is_tracked, stability_index

OUTPUT = TensorSpec("probabilities", BY_NAME["FP32"], (FREE, 3), ("a", "b", "c"))
BASELINE = Baseline(predicted_classes={"a": 0.5, "b": 0.3, "c": 0.2}, confidence=[0.0, 0.0, 0.1, 0.1, 0.8])


def rows(*classes: int, confidence: float = 0.9) -> np.ndarray:
    """Returns probabilities float32 [N, 3], the class named having so much and the others the rest."""
    scores = np.full((len(classes), 3), (1 - confidence) / 2, np.float32)
    scores[np.arange(len(classes)), classes] = confidence
    return scores


def typical(count: int) -> list[int]:
    """Returns classes in the baseline's shares."""
    return [0] * (count * 5 // 10) + [1] * (count * 3 // 10) + [2] * (count * 2 // 10)


def reader(output: TensorSpec = OUTPUT, kind: OutputKind = "probabilities", *, declared: bool = True) -> ScoreReader:
    return ScoreReader(output, kind, "as a test says", declared=declared)


def watched(
    *, window: int = 1000, baseline: Baseline | None = BASELINE, kind: OutputKind = "probabilities", **fields: bool
) -> Predictions:
    return Predictions(reader(kind=kind, **fields), baseline, window)


def test_each_row_counts_for_its_class() -> None:
    predictions = watched()
    predictions.add(rows(0, 2, 2))
    predictions.add(rows(1))
    assert predictions.counts() == [1, 1, 2]


def test_many_rows_are_counted_without_a_scrape() -> None:
    predictions = watched()
    for _ in range(200):
        predictions.add(rows(*typical(100)))
    assert len(predictions._pending) < 20_000 * 3 * 4 * 2 // 3
    assert predictions.counts() == [10_000, 6000, 4000]


def test_rows_are_copied_so_a_runs_outputs_can_be_freed() -> None:
    predictions, scores = watched(), rows(0, 1)
    predictions.add(scores[:1])
    scores[:] = rows(2, 2)
    assert predictions.counts() == [1, 0, 0]


def test_confidence_and_entropy_are_those_of_probabilities() -> None:
    predictions = watched()
    predictions.add(rows(0, confidence=0.7))
    predictions.add(np.array([[1, 0, 0]], np.float32))
    assert predictions.counts() == [2, 0, 0]
    confidence, entropy = predictions.histograms
    assert dict(confidence.cumulative())["+Inf"] == 2
    assert confidence.sum == pytest.approx(1.7)
    assert entropy.sum == pytest.approx(-(0.7 * math.log(0.7) + 0.3 * math.log(0.15)))


def test_logits_count_as_the_probabilities_that_a_softmax_makes_of_them() -> None:
    predictions, of_probabilities = watched(kind="logits"), watched()
    logits = np.log(rows(*typical(100), confidence=0.7)) + 40
    predictions.add(logits)
    of_probabilities.add(rows(*typical(100), confidence=0.7))
    assert predictions.counts() == of_probabilities.counts() == [50, 30, 20]
    for mine, theirs in zip(predictions.histograms, of_probabilities.histograms, strict=True):
        assert mine.sum == pytest.approx(theirs.sum, rel=1e-4)
    mine, theirs = predictions.drift(), of_probabilities.drift()
    assert mine is not None
    assert theirs is not None
    assert mine.confidence == pytest.approx(theirs.confidence)


def test_scores_have_classes_and_no_confidence() -> None:
    predictions = watched(kind="scores")
    predictions.add(np.array([[4, -1, 2]], np.float32))
    assert predictions.counts() == [1, 0, 0]
    assert [dict(histogram.cumulative())["+Inf"] for histogram in predictions.histograms] == [0, 0]


def test_scores_do_not_drift_from_a_baseline_of_probabilities() -> None:
    predictions = watched(kind="scores")
    predictions.add(rows(*typical(200)))
    assert predictions.counts() == [100, 60, 40]
    assert predictions.drift() is None


def test_what_was_taken_for_probabilities_and_is_not_has_no_confidence() -> None:
    predictions = watched(declared=False)
    predictions.add(np.array([[4, -1, 2]], np.float32))
    predictions.add(rows(1))
    assert predictions.counts() == [1, 1, 0]
    assert dict(predictions.histograms[0].cumulative())["+Inf"] == 0


def test_independent_classes_have_the_sum_of_their_entropies() -> None:
    predictions = watched(kind="sigmoids")
    predictions.add(np.array([[0.5, 0.5, 1.0]], np.float32))
    assert predictions.counts() == [0, 0, 1]
    confidence, entropy = predictions.histograms
    assert (confidence.sum, entropy.sum) == (1, pytest.approx(2 * math.log(2)))


def test_one_number_for_two_classes_counts_for_either() -> None:
    single = TensorSpec("p", BY_NAME["FP32"], (FREE, 1), ("cat", "dog"))
    predictions = Predictions(reader(single, "sigmoids"), None, 10)
    predictions.add(np.array([[0.9], [0.2], [0.3]], np.float32))
    assert (predictions.labels, predictions.counts()) == (("cat", "dog"), [2, 1])
    confidence, entropy = predictions.histograms
    assert confidence.sum == pytest.approx(0.9 + 0.8 + 0.7)
    assert entropy.sum < 3 * math.log(2)


@pytest.mark.parametrize("kind", ["probabilities", "logits", "sigmoids", "scores"])
def test_nan_and_infinities_are_counted_and_nothing_else(kind: OutputKind) -> None:
    predictions = watched(kind=kind)
    predictions.add(np.array([[np.nan, 0, 1], [np.inf, 0, 0], [0.9, 0.1, 0]], np.float32))
    assert predictions.not_finite() == 2
    assert predictions.counts() == [1, 0, 0]
    assert all(math.isfinite(histogram.sum) for histogram in predictions.histograms)


@pytest.mark.parametrize(
    ("classes", "confidence", "changed"),
    [
        pytest.param(typical(100) * 10, 0.9, [], id="as the baseline"),
        pytest.param([2] * 1000, 0.9, ["classes"], id="another class"),
        pytest.param(typical(100) * 10, 0.5, ["confidence"], id="less sure"),
    ],
)
def test_drift_is_what_differs_from_the_baseline(classes: Sequence[int], confidence: float, changed: list[str]) -> None:
    predictions = watched()
    # As sure as the baseline: a tenth in each of two lower bins, the rest in the highest.
    spread = np.array([0.5] * 100 + [0.7] * 100 + [0.9] * 800)
    scores = rows(*classes) if confidence == 0.9 else rows(*classes, confidence=confidence)
    if confidence == 0.9:
        scores = np.concatenate([rows(each, confidence=sure) for each, sure in zip(classes, spread, strict=True)])
    predictions.add(scores)
    drift = predictions.drift()
    assert drift is not None
    assert drift.rows == 1000
    found = {"classes": drift.classes, "confidence": drift.confidence}
    assert [name for name, index in found.items() if index > 0.25] == changed
    assert all(index < 0.01 for name, index in found.items() if name not in changed)


def test_the_window_forgets() -> None:
    predictions = watched(window=200)
    predictions.add(rows(*[2] * 1000))
    predictions.add(rows(*typical(200)))
    drift = predictions.drift()
    assert drift is not None
    assert (drift.rows, drift.classes < 0.01) == (200, True)


def test_few_predictions_and_no_baseline_say_nothing() -> None:
    predictions = watched()
    assert predictions.drift() is None
    predictions.add(rows(*typical(90)))
    assert predictions.drift() is None
    unknown = watched(baseline=None)
    unknown.add(rows(*typical(200)))
    assert unknown.drift() is None


def test_the_index_is_the_sum_of_both_divergences() -> None:
    p, q = [0.2, 0.8], [0.5, 0.5]
    expected = sum(a * math.log(a / b) + b * math.log(b / a) for a, b in zip(p, q, strict=True))
    assert stability_index(p, q) == pytest.approx(expected)
    assert stability_index(p, p) == 0
    # A share of nothing is not infinite.
    assert 0 < stability_index([0, 1], [1, 0]) < 20


@pytest.mark.parametrize(
    ("columns", "labels", "watched"),
    [
        pytest.param(10, (), True, id="scores"),
        pytest.param(1, (), False, id="one number"),
        pytest.param(1, ("cat", "dog"), True, id="one number for two classes"),
        pytest.param(FREE, (), False, id="any number of classes"),
        pytest.param(100_000, (), False, id="too many classes to read"),
    ],
)
def test_only_classifiers_are_watched(columns: int, labels: tuple[str, ...], watched: bool) -> None:
    assert is_tracked(reader(TensorSpec("y", BY_NAME["FP32"], (FREE, columns), labels))) == watched
    assert not is_tracked(None)


def test_labels_that_are_not_distinct_are_numbers() -> None:
    twice = TensorSpec("y", BY_NAME["FP32"], (FREE, 3), ("cat", "cat", "dog"))
    assert Predictions(reader(twice), None, 10).labels == ("0", "1", "2")
    assert Predictions(reader(TensorSpec("y", BY_NAME["FP32"], (FREE, 2))), None, 10).labels == ("0", "1")
