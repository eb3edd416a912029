from dataclasses import replace

import numpy as np
import pytest

from pixelserve_training import datasets


@pytest.mark.parametrize(("name", "outputs"), [("xor", [0, 1, 1, 0]), ("and", [0, 0, 0, 1])])
def test_a_gates_four_rows_are_learned_from_and_measured_on(name: str, outputs: list[int]) -> None:
    dataset = datasets.load(name, None)
    assert dataset.train.inputs.dtype == np.float32
    assert dataset.train.inputs.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert dataset.train.targets.tolist() == outputs
    assert dataset.quoted(held_out=0.0) == ("training", dataset.train)


def test_gates_with_the_same_rows_have_hashes_of_their_own() -> None:
    assert datasets.load("xor", None).sha256 != datasets.load("and", None).sha256


def test_blood_fat_is_a_regression_on_age_and_weight_of_25_people() -> None:
    dataset = datasets.load("blood-fat", None)
    assert (dataset.task, dataset.labels) == ("regression", ())
    assert dataset.features == ("age in years", "weight in kg")
    # The file's first line is weight 84, age 46, blood fat 354.
    assert dataset.train.inputs.shape == (25, 2)
    assert dataset.train.inputs[0].tolist() == [46, 84]
    assert dataset.train.targets[0] == 354
    assert dataset.quoted(held_out=0.0)[0] == "training"


@pytest.mark.slow
def test_iris_holds_ten_flowers_of_each_species_out_for_the_test() -> None:
    dataset = datasets.load("iris", None)
    assert dataset.labels == ("setosa", "versicolor", "virginica")
    assert np.bincount(dataset.test.targets).tolist() == [10, 10, 10]
    assert np.bincount(dataset.train.targets).tolist() == [40, 40, 40]


@pytest.mark.slow
def test_figures_are_of_held_out_samples_unless_the_test_split_is_free_to_read() -> None:
    dataset = datasets.load("iris", None)
    name, split = dataset.quoted(held_out=0.25)
    assert (name, len(split)) == ("validation", 30)
    assert dataset.quoted(held_out=0.0) == ("training", dataset.train)
    free = replace(dataset, sealed=False)
    assert free.quoted(held_out=0.25) == ("test", dataset.test)
    without = replace(free, test=free.train)
    assert (without.has_test, free.has_test) == (False, True)
    name, split = without.quoted(held_out=0.25)
    assert (name, len(split)) == ("validation", 30)
    assert without.quoted(held_out=0.0) == ("training", dataset.train)


@pytest.mark.slow
def test_iris_is_split_the_same_way_every_time() -> None:
    first, second = datasets.load("iris", None), datasets.load("iris", None)
    assert first.sha256 == second.sha256
    np.testing.assert_array_equal(first.test.inputs, second.test.inputs)
