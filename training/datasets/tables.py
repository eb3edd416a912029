"""Tables that come with the project or a library, without a download."""

import csv
from importlib import resources

import numpy as np

from .. import frameworks
from .arrays import fingerprint
from .dataset import Array, Dataset, Source, Split

_TRUTH = ("false", "true")
# Not the run's seed, so every run is evaluated on the same flowers.
_IRIS_SEED = 1
_IRIS_TEST_SHARE = 0.2


def load_xor() -> Dataset:
    """Returns the truth table of the exclusive or; its four rows are both training and test split."""
    return _gate("XOR", np.array([0, 1, 1, 0], np.uint8))


def load_and() -> Dataset:
    """Returns the truth table of the logical and; its four rows are both training and test split."""
    return _gate("AND", np.array([0, 0, 0, 1], np.uint8))


def load_blood_fat() -> Dataset:
    """Returns age, weight and blood fat of 25 people, who are both training and test split.

    H. Spaeth, "Mathematical Algorithms for Linear Regression", Academic Press 1991; set x09 of J. Burkardt's collection
    REGRESSION.
    """
    content = (resources.files(__package__) / "blood-fat.csv").read_text(encoding="utf-8")
    people = list(csv.DictReader(content.splitlines()))
    inputs = np.array([[person["age_years"], person["weight_kg"]] for person in people], np.float32)
    everybody = Split(inputs, np.array([person["blood_fat"] for person in people], np.float32))
    return Dataset(
        name="Blood fat",
        task="regression",
        labels=(),
        train=everybody,
        test=everybody,
        sha256=fingerprint("Blood fat", everybody),
        features=("age in years", "weight in kg"),
        target="blood fat",
    )


def load_iris() -> Dataset:
    """Returns Fisher's irises: 120 for training and 30 for testing, balanced by species.

    Source: scikit-learn; R. A. Fisher, "The use of multiple measurements in taxonomic problems", 1936.

    Raises:
        MissingLibraryError: scikit-learn is not installed.
    """
    with frameworks.named_where_missing():
        from sklearn.datasets import load_iris as load_bundled
        from sklearn.model_selection import train_test_split
    bundled = load_bundled()
    train_inputs, test_inputs, train_targets, test_targets = train_test_split(
        *(bundled.data.astype(np.float32), bundled.target.astype(np.uint8)),
        test_size=_IRIS_TEST_SHARE,
        random_state=_IRIS_SEED,
        stratify=bundled.target,
    )
    train, test = Split(train_inputs, train_targets), Split(test_inputs, test_targets)
    return Dataset(
        name="Iris",
        task="tabular",
        labels=tuple(str(name) for name in bundled.target_names),
        train=train,
        test=test,
        sha256=fingerprint("Iris", train, test),
        sealed=True,
        features=("sepal length in cm", "sepal width in cm", "petal length in cm", "petal width in cm"),
    )


def _gate(name: str, outputs: Array) -> Dataset:
    rows = Split(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), outputs)
    return Dataset(
        name=name,
        task="tabular",
        labels=_TRUTH,
        train=rows,
        test=rows,
        sha256=fingerprint(name, rows),
        features=("a", "b"),
    )


SOURCES = {
    "xor": Source(lambda _: load_xor()),
    "and": Source(lambda _: load_and()),
    "blood-fat": Source(lambda _: load_blood_fat()),
    "iris": Source(lambda _: load_iris()),
}
