"""A learner learns: 5,000 real digits, and what it then knows about others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pixelserve_training import zoo
from pixelserve_training.datasets import Split, idx
from pixelserve_training.learners import network
from pixelserve_training.measuring.evaluate import measure
from pixelserve_training.recipe import Optimizer

MNIST = Path(__file__).resolve().parents[2] / "data" / "mnist"

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]


@pytest.fixture(scope="module")
def digits() -> Split:
    """The 10,000 images that come with the tests, shuffled: the first half's writers are others than the second's."""
    images = idx.read(MNIST / "t10k-images-idx3-ubyte.gz", rank=3)
    labels = idx.read(MNIST / "t10k-labels-idx1-ubyte.gz", rank=1)
    order = np.random.default_rng(0).permutation(len(labels))
    return Split(images[order, :, :, np.newaxis], labels[order])


def test_a_network_learns_5000_digits_and_knows_how_sure_it_may_be_of_others(digits: Split) -> None:
    """Takes 12 s of one core. Held-out samples find the temperature; the figures are those of the rest."""
    optimizer = Optimizer("adam", 0.003, "cosine", warmup=0.1, averaging=0.98)
    recipe = replace(zoo.find("mnist-cnn"), optimizer=optimizer, epochs=4, calibrated=True)
    train, held_out, others = (digits.take(np.arange(*ends)) for ends in ((0, 5000), (5000, 6000), (6000, 10_000)))
    trained = network.fit_splits(recipe, train, held_out, classes=10)
    figures = measure(trained.predict(others.inputs), others.targets, tuple("0123456789"), split="held-out")
    # 0.977 and 0.006 where it was written.
    assert figures.accuracy >= 0.97
    assert figures.calibration is not None
    assert figures.calibration.expected_calibration_error <= 0.015
