"""The committed models/mnist-cnn/1 is what its card says it is."""

from pathlib import Path

import numpy as np
import pytest

from pixelserve.card import Card, read_card, read_golden, replay, verify_model_file
from pixelserve_training import zoo
from pixelserve_training.datasets import idx
from pixelserve_training.exporting.config import check_agrees
from pixelserve_training.measuring.evaluate import measure
from pixelserve_training.runtime import OnnxModel

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "mnist-cnn"
VERSION = MODEL / "1"
MNIST = ROOT / "tests" / "data" / "mnist"
LABELS = tuple("0123456789")


@pytest.fixture(scope="module")
def card() -> Card:
    return read_card(VERSION / "card.json")


@pytest.fixture(scope="module")
def model() -> OnnxModel:
    return OnnxModel((VERSION / "model.onnx").read_bytes(), source="model.onnx")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return idx.read(MNIST / "t10k-images-idx3-ubyte.gz", rank=3)[..., np.newaxis]


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return idx.read(MNIST / "t10k-labels-idx1-ubyte.gz", rank=1)


def test_the_model_file_is_the_one_that_the_card_describes(card: Card) -> None:
    verify_model_file(card, VERSION / "model.onnx")


def test_the_golden_samples_are_test_images_and_replay_within_the_tolerance(
    card: Card, model: OnnxModel, images: np.ndarray
) -> None:
    golden = read_golden(VERSION / "golden.npz")
    np.testing.assert_array_equal(golden.inputs["image"], images[:16])
    assert replay(golden, model.run, card.tolerance("CPUExecutionProvider")) <= 1e-5


def test_config_and_labels_describe_the_model(model: OnnxModel) -> None:
    check_agrees(MODEL / "config.pbtxt", model, LABELS)


def test_the_card_names_the_official_data_the_recipe_and_its_seed(card: Card) -> None:
    recipe = zoo.find("mnist-cnn")
    assert (card.recipe, card.seed, card.parameters) == (recipe.name, recipe.seed, 93_322)
    assert card.dataset is not None
    assert (card.dataset.name, card.dataset.note) == ("MNIST", "")


def test_the_card_promises_at_least_99_percent_as_the_recipe_measured_it(card: Card) -> None:
    recipe = zoo.find("mnist-cnn")
    assert card.evaluation is not None
    assert card.evaluation.samples == 10_000
    assert card.evaluation.metrics["accuracy"] >= 0.99
    assert card.evaluation.metrics["accuracy"] == pytest.approx(recipe.measured[recipe.seed], abs=1e-4)


@pytest.mark.slow
def test_all_10000_test_images_give_the_cards_figures(
    card: Card, model: OnnxModel, images: np.ndarray, labels: np.ndarray
) -> None:
    figures = measure(model.run({"image": images})["probabilities"], labels, LABELS, split="test")
    assert card.evaluation is not None
    assert figures.evaluation.metrics == pytest.approx(card.evaluation.metrics, abs=1e-4)
    assert figures.evaluation.per_class_recall == pytest.approx(card.evaluation.per_class_recall, abs=2e-3)
    assert card.calibration is not None
    assert figures.calibration is not None
    assert figures.calibration.expected_calibration_error == pytest.approx(
        card.calibration.expected_calibration_error, abs=1e-3
    )
