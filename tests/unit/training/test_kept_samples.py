"""The samples that a run of a user's own data keeps: what it was measured on, and what an export needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.card import read_card
from pixelserve_training import from_arrays
from pixelserve_training.datasets import Dataset, hold_out
from pixelserve_training.errors import SourceError
from pixelserve_training.running import kept

Command = Callable[..., Any]
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"

ROWS = np.random.default_rng(0).uniform(size=(40, 2)).astype(np.float32)
CLASSES = np.arange(40) % 2


def made(*, with_test: bool) -> Dataset:
    test = (ROWS[30:], CLASSES[30:]) if with_test else None
    return from_arrays("Rows", (ROWS[:30], CLASSES[:30]), test, labels=("no", "yes"))


@pytest.mark.parametrize(
    ("with_test", "held_out", "split", "count", "learned"),
    [(True, 0.2, "test", 10, 24), (False, 0.2, "validation", 6, 24), (False, 0.0, "training", 30, 30)],
)
def test_what_was_measured_is_kept_with_the_name_of_its_split(
    with_test: bool, held_out: float, split: str, count: int, learned: int, tmp_path: Path
) -> None:
    dataset = made(with_test=with_test)
    kept.write(tmp_path, dataset, held_out)
    read = kept.read(tmp_path, name=dataset.name, sha256=dataset.sha256)
    assert read.has_test is with_test
    found, samples = read.quoted(held_out)
    assert (found, len(samples)) == (split, count)
    np.testing.assert_array_equal(samples.inputs, dataset.quoted(held_out)[1].inputs)
    np.testing.assert_array_equal(samples.targets, dataset.quoted(held_out)[1].targets)
    assert kept.origin(tmp_path / kept.SAMPLES) == (dataset.sha256, split)
    # What an int8 version is calibrated on was learned.
    ours, theirs = hold_out(dataset.train, held_out)[0], hold_out(read.train, 0.0)[0]
    assert len(theirs) == learned
    assert sorted(map(tuple, theirs.inputs)) == sorted(map(tuple, ours.inputs))


def test_samples_of_an_earlier_release_and_of_others_have_no_split(tmp_path: Path) -> None:
    dataset = made(with_test=True)
    kept.write(tmp_path, dataset, 0.2)
    arrays = dict(np.load(tmp_path / kept.SAMPLES))
    np.savez(tmp_path / kept.SAMPLES, **{key: arrays[key] for key in arrays if key not in ("split", "sha256")})
    assert kept.read(tmp_path, name="Rows", sha256="ab").quoted(0.2)[0] == "test"
    assert kept.origin(tmp_path / kept.SAMPLES) is None
    np.savez(tmp_path / kept.SAMPLES, **arrays | {"split": np.array("mine")})
    assert kept.origin(tmp_path / kept.SAMPLES) is None
    (tmp_path / kept.SAMPLES).write_bytes(b"half")
    with pytest.raises(SourceError, match="not the samples of a run"):
        kept.origin(tmp_path / kept.SAMPLES)


RECIPE = """
import keras
import numpy as np
from pixelserve_training import KerasRecipe, from_arrays

def rows():
    random = np.random.default_rng(0)
    return from_arrays("Rows", (random.uniform(size=(60, 2)), random.integers(0, 2, 60)), labels=("no", "yes"))

def build(classes):
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(classes, activation="softmax")])

RECIPE = KerasRecipe(name="rows", dataset=rows, build=build, epochs=1, batch_size=10, held_out=0.2)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings(_KERAS_WARNING)
def test_the_card_has_the_figures_of_the_held_out_samples_and_they_can_be_measured_again(
    pixelserve: Command, tmp_path: Path
) -> None:
    recipe, choice, final, models = (tmp_path / name for name in ("rows.py", "choice", "final", "models"))
    recipe.write_text(RECIPE)
    for run in (("--run-dir", choice), ("--run-dir", final, "--final", choice)):
        ran = pixelserve("train", recipe, *run)
        assert ran.exit_code == 0, ran.err
    for run in (choice, final):
        assert pixelserve("export", run, "--name", run.name, "--to", models).exit_code == 0
        evaluation = read_card(models / run.name / "1" / "card.json").evaluation
        assert evaluation is not None
        assert (evaluation.split, evaluation.samples) == ("validation", 12)
    measured = ("--model-repository", models, "--samples", choice / "samples.npz")
    again = pixelserve("evaluate", "choice", *measured)
    assert again.exit_code == 0, again.err
    assert "12 samples of samples.npz (validation)" in again.out
    assert "not comparable" not in again.out
    # The final network has learned them.
    other = pixelserve("evaluate", "final", *measured)
    assert "not comparable with the card: its card has the figures of another network" in other.out
