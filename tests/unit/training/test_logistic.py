import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.card import read_card
from pixelserve_training import datasets, zoo
from pixelserve_training.datasets import Dataset
from pixelserve_training.errors import SourceError, UsageError
from pixelserve_training.exporting import graphs, sources
from pixelserve_training.learners import logistic
from pixelserve_training.learners.logistic import LogisticRecipe
from pixelserve_training.running.cross_validation import cross_validate
from pixelserve_training.runtime import OnnxModel

Command = Callable[..., Any]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fashion(root: Path) -> Dataset:
    return datasets.load("fashion-mnist", root / "tests" / "data" / "tiny")


@pytest.fixture(scope="module")
def trained(fashion: Dataset) -> logistic.Logistic:
    recipe = zoo.find("fashion-logistic")
    assert isinstance(recipe, LogisticRecipe)
    return logistic.fit(replace(recipe, epochs=3), fashion)


def test_every_fold_is_measured(fashion: Dataset) -> None:
    recipe = zoo.find("fashion-logistic")
    assert isinstance(recipe, LogisticRecipe)
    quick = replace(recipe, epochs=3)
    accuracies = cross_validate(quick, fashion, 2).accuracies
    assert len(accuracies) == 2
    # A tenth would be guessed.
    assert min(accuracies) > 0.3
    assert cross_validate(quick, fashion, 2).accuracies == accuracies


def test_more_folds_than_images_of_a_class_are_refused(fashion: Dataset) -> None:
    with pytest.raises(UsageError, match="21 folds need 21 training samples of every class"):
        cross_validate(zoo.find("fashion-logistic"), fashion, 21)


def test_it_has_as_many_weights_as_its_recipe_says(trained: logistic.Logistic) -> None:
    assert trained.parameters == zoo.find("fashion-logistic").parameters


def test_the_same_seed_gives_the_same_weights(trained: logistic.Logistic, fashion: Dataset) -> None:
    recipe = zoo.find("fashion-logistic")
    assert isinstance(recipe, LogisticRecipe)
    again = logistic.fit(replace(recipe, epochs=3), fashion)
    np.testing.assert_array_equal(again.estimator.coef_, trained.estimator.coef_)


def test_a_regression_is_read_as_it_was_written(trained: logistic.Logistic, fashion: Dataset, tmp_path: Path) -> None:
    trained.save(tmp_path)
    read = logistic.load(tmp_path / logistic.FILE)
    images = fashion.test.inputs
    np.testing.assert_array_equal(read.predict(images), trained.predict(images))
    assert read.image_shape == (28, 28, 1)


def test_the_graph_takes_raw_pixels_and_agrees_with_scikit_learn(trained: logistic.Logistic, fashion: Dataset) -> None:
    model = OnnxModel(graphs.logistic(trained), source="regression")
    assert [(tensor.name, tensor.dtype) for tensor in (*model.inputs, *model.outputs)] == [
        ("image", np.uint8),
        ("probabilities", np.float32),
    ]
    assert model.outputs[0].shape == (-1, 10)
    found = model.run({"image": fashion.test.inputs})["probabilities"]
    expected = trained.predict(fashion.test.inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))


def test_a_damaged_regression_is_named(tmp_path: Path) -> None:
    (tmp_path / logistic.FILE).write_bytes(b"no archive")
    with pytest.raises(SourceError, match=r"logistic\.npz: cannot be read as a regression's weights"):
        sources.from_run(tmp_path, ())


def test_the_commands_train_cross_validate_and_export_it(pixelserve: Command, root: Path, tmp_path: Path) -> None:
    data = ("--data-dir", root / "tests" / "data" / "tiny")
    ran = pixelserve("train", "fashion-logistic", *data, "--epochs", 1, "--run-dir", tmp_path / "run")
    assert ran.exit_code == 0, ran.err
    assert "fold 5 accuracy" in ran.out
    assert "cross-validation accuracy" in ran.out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert f"cross-validation accuracy {metrics['cross_validation']['mean']:.2%}" in ran.out
    ran = pixelserve("export", tmp_path / "run", *data, "--to", tmp_path / "models")
    assert ran.exit_code == 0, ran.err
    card = read_card(tmp_path / "models" / "fashion-logistic" / "1" / "card.json")
    assert (card.task, card.parameters) == ("image", 7_850)
    assert card.reference is not None
    assert card.reference.framework == "scikit-learn"
