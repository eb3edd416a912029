"""Data sets from arrays: their kind, and what does not fit together."""

from typing import Any

import numpy as np
import pytest

from pixelserve_training import datasets
from pixelserve_training.errors import DataError


@pytest.mark.parametrize(
    ("train", "labels", "message"),
    [
        ((np.zeros((2, 3)), np.zeros(3, int)), ("a", "b"), "2 samples with 3 targets"),
        ((np.zeros((0, 3)), np.zeros(0, int)), ("a", "b"), "0 samples with 0 targets"),
        (
            (np.zeros((2, 4, 4, 1)), np.zeros(2, int)),
            ("a", "b"),
            r"samples are float64 \[2, 4, 4, 1\]; expected images uint8",
        ),
        ((np.full((2, 3), np.nan), np.zeros(2, int)), ("a", "b"), "a sample has NaN or infinity"),
        ((np.zeros((2, 3)), np.zeros((2, 1), int)), ("a", "b"), r"targets are \[2, 1\]"),
        ((np.zeros((2, 3)), np.array([0, 2])), ("a", "b"), "int64 from 0 to 2; expected integers from 0 to 1"),
        ((np.zeros((2, 3)), np.zeros(2)), ("a", "b"), "targets are float64"),
        ((np.array([["1", "x"]]), np.zeros(1, int)), ("a", "b"), "samples are <U1; expected numbers"),
        ((np.full((1, 2), 1e39), np.zeros(1, int)), ("a", "b"), "a sample has NaN or infinity"),
        ((np.zeros((2, 3)), np.array([1, np.nan])), (), "a target is NaN or infinity"),
        ((np.zeros((2, 3)), np.array(["1", "2"])), (), "targets are <U1; expected numbers"),
        ((np.zeros((2, 3)), np.zeros(2, int)), ("a", "a"), "a label is given twice in a, a"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(train: Any, labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        datasets.from_arrays("mine", train, labels=labels)


def test_as_many_features_are_named_as_there_are_columns() -> None:
    with pytest.raises(DataError, match=r"2 names of features for samples \[3\]; name each column"):
        datasets.from_arrays("mine", (np.zeros((2, 3)), np.zeros(2)), features=("x", "y"))


def test_splits_of_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match=r"training samples are \[3\], test samples \[4\]"):
        datasets.from_arrays("mine", (np.zeros((2, 3)), np.zeros(2)), (np.zeros((2, 4)), np.zeros(2)))


def test_the_kind_of_a_data_set_follows_from_its_arrays() -> None:
    rows, images = np.zeros((2, 3)), np.zeros((2, 4, 4, 1), np.uint8)
    made = [
        datasets.from_arrays("mine", (rows, np.array([0, 1])), labels=("a", "b")),
        datasets.from_arrays("mine", (images, np.array([0, 1])), labels=("a", "b")),
        datasets.from_arrays("mine", (rows, np.array([0.5, 1])), target="value"),
    ]
    assert [dataset.task for dataset in made] == ["tabular", "image", "regression"]
    assert [dataset.train.inputs.dtype.name for dataset in made] == ["float32", "uint8", "float32"]
    assert len({dataset.sha256 for dataset in made}) == 3
    assert made[0].test is made[0].train
