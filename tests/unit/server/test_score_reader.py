"""The interpretation of an output changes at most once, and never back."""

import threading
from typing import Any

import numpy as np
import pytest

from pixelserve.scores import OutputKind
from pixelserve_server.engine import scores
from pixelserve_server.engine.scores import ScoreReader, scores_output
from pixelserve_server.engine.tensors import BY_NAME, FREE, TensorSpec

OUTPUT = TensorSpec("y", BY_NAME["FP32"], (FREE, 2), ("cat", "dog"))
SURE = np.array([[0.9, 0.1]], np.float32)
LOGITS = np.array([[4.5, -2.0]], np.float32)


class Told:
    """A reader, and its messages."""

    def __init__(self, kind: OutputKind, *, declared: bool) -> None:
        self.said: list[str] = []
        self.reader = ScoreReader(OUTPUT, kind, "a test", declared=declared, on_contradiction=self.said.append)


@pytest.mark.parametrize("declared", [True, False])
def test_a_row_without_probabilities_makes_it_and_all_later_ones_scores(declared: bool) -> None:
    told = Told("probabilities", declared=declared)
    assert told.reader.read(SURE).are_probabilities
    reading = told.reader.read(np.concatenate([SURE, LOGITS]))
    assert (reading.kind, reading.numbers.tolist()) == ("scores", np.concatenate([SURE, LOGITS]).tolist())
    # Later rows that look like probabilities do not change it back.
    assert [told.reader.read(SURE).kind for _ in range(3)] == ["scores"] * 3
    assert (told.reader.kind, told.reader.is_contradicted, len(told.said)) == ("scores", True, 1)
    assert "[4.5, -2]" in told.said[0]
    assert "output_kind" in told.said[0]


def test_what_was_only_assumed_has_to_add_up_as_well() -> None:
    independent = np.array([[0.9, 0.8]], np.float32)
    assert Told("probabilities", declared=True).reader.read(independent).are_probabilities
    assert not Told("probabilities", declared=False).reader.read(independent).are_probabilities


@pytest.mark.parametrize("kind", ["logits", "scores"])
def test_numbers_of_any_size_contradict_neither_logits_nor_scores(kind: OutputKind) -> None:
    told = Told(kind, declared=True)
    assert told.reader.read(LOGITS).kind == kind
    assert told.said == []


def test_nan_contradicts_nothing() -> None:
    told = Told("probabilities", declared=False)
    reading = told.reader.read(np.array([[np.nan, 0.5], [0.25, 0.75]], np.float32))
    assert (reading.kind, reading.finite.tolist(), told.said) == ("probabilities", [False, True], [])


def test_threads_that_see_it_at_once_say_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told("probabilities", declared=False)
    together, contradict = threading.Barrier(8), scores.contradict

    def look_together(*args: Any) -> Any:
        # All of them have read the kind before one changes it.
        together.wait(60)
        return contradict(*args)

    monkeypatch.setattr(scores, "contradict", look_together)
    threads = [threading.Thread(target=told.reader.read, args=(LOGITS,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told.said) == 1


@pytest.mark.parametrize(
    ("shapes", "datatype", "is_classifier"),
    [
        pytest.param([(FREE, 10)], "FP32", True, id="scores"),
        pytest.param([(FREE, 10)], "INT64", False, id="whole numbers"),
        pytest.param([(FREE, 4, 4)], "FP32", False, id="a map"),
        pytest.param([(FREE, 10), (FREE, 10)], "FP32", False, id="two outputs"),
    ],
)
def test_a_classifier_has_one_output_of_a_number_for_each_class(
    shapes: list[tuple[int, ...]], datatype: str, is_classifier: bool
) -> None:
    specs = [TensorSpec(f"y{number}", BY_NAME[datatype], shape) for number, shape in enumerate(shapes)]
    assert (scores_output(specs) is not None) == is_classifier
