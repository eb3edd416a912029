import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve_training import learners
from pixelserve_training.datasets import Array, Dataset, Split, stratified_folds
from pixelserve_training.errors import UsageError
from pixelserve_training.recipe import KerasRecipe
from pixelserve_training.running import cross_validation
from pixelserve_training.running.cross_validation import CrossValidation, cross_validate

Command = Callable[..., Any]

# scikit-learn takes its time to load.
pytestmark = pytest.mark.slow

_LABELS = np.arange(30) % 3


def split_of(labels: Array) -> Split:
    """Samples that tell which they are: each one's only input is its index."""
    return Split(np.arange(len(labels))[:, np.newaxis], labels)


def test_every_sample_is_in_one_fold_and_its_model_learns_from_all_others() -> None:
    parts = list(stratified_folds(split_of(_LABELS), 5))
    assert len(parts) == 5
    assert sorted(np.concatenate([fold for _, fold in parts])) == list(range(30))
    for others, fold in parts:
        assert sorted([*others, *fold]) == list(range(30))


def test_every_class_has_its_share_of_each_fold() -> None:
    for _, fold in stratified_folds(split_of(_LABELS), 5):
        assert np.bincount(_LABELS[fold]).tolist() == [2, 2, 2]


def test_folds_are_the_same_in_every_run() -> None:
    first, second = (np.concatenate([fold for _, fold in stratified_folds(split_of(_LABELS), 3)]) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_more_folds_than_a_class_has_samples_are_refused() -> None:
    with pytest.raises(UsageError, match=r"11 folds need 11 training samples of every class, but .* index 0 has 10"):
        list(stratified_folds(split_of(_LABELS), 11))


def test_mean_and_spread_are_those_of_the_accuracies() -> None:
    validation = CrossValidation((0.5, 0.7, 0.9))
    assert validation.mean == pytest.approx(0.7)
    assert validation.spread == pytest.approx(0.2)
    assert validation.as_json() == {"accuracies": [0.5, 0.7, 0.9], "mean": validation.mean, "spread": validation.spread}


class Memory:
    """A model that is right about the samples that it has learned from, and about the first class."""

    def __init__(self, train: Split) -> None:
        self.known = dict(zip(train.inputs[:, 0].tolist(), train.targets.tolist(), strict=True))

    def predict(self, inputs: Array) -> Array:
        return np.eye(3)[[self.known.get(index, 0) for index in inputs[:, 0].tolist()]]


def test_a_fold_is_measured_by_a_model_that_has_not_learned_from_it(
    small_recipe: KerasRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_validation.learners, "fit", lambda recipe, dataset: Memory(dataset.train))
    dataset = Dataset("toy", "tabular", ("a", "b", "c"), split_of(_LABELS), split_of(_LABELS[:0]), sha256="")
    assert cross_validate(small_recipe, dataset, 5).accuracies == pytest.approx([1 / 3] * 5)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_a_cross_validated_run_says_each_folds_accuracy_and_keeps_a_model_of_all_samples(
    pixelserve: Command,
    small_in_zoo: KerasRecipe,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learned_from = []
    original = learners.fit

    def fit(recipe: Any, dataset: Dataset, *checkpoint: Any) -> Any:
        learned_from.append(len(dataset.train))
        return original(recipe, dataset, *checkpoint)

    monkeypatch.setattr(learners, "fit", fit)
    run = tmp_path / "run"
    ran = pixelserve("train", "small", "--data-dir", data_dir, "--run-dir", run, "--folds", 2)
    assert ran.exit_code == 0, ran.err
    assert learned_from == [32, 32, 64]
    assert [line.split()[0] for line in ran.out.splitlines()] == ["fold", "fold", "mean", "cross-validation", "wrote"]
    kept = json.loads((run / "metrics.json").read_text())["cross_validation"]
    assert [f"{accuracy:.2%}" for accuracy in kept["accuracies"]] == [
        line.split()[-1] for line in ran.out.splitlines()[:2]
    ]
    assert json.loads((run / "settings.json").read_text())["learner"]["folds"] == 2
