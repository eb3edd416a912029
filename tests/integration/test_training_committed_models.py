"""The models under models/ match their cards."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pixelserve.card import Card, read_card, verify_model_file
from pixelserve.golden import read_golden, replay
from pixelserve_training import zoo
from pixelserve_training.datasets import idx
from pixelserve_training.exporting.config import check_agrees
from pixelserve_training.measuring.evaluate import measure
from pixelserve_training.runtime import OnnxModel

ROOT = Path(__file__).resolve().parents[2]
MNIST = ROOT / "tests" / "data" / "mnist"
DIGITS = tuple("0123456789")
# The data set's name in the card, by the recipe's.
DATASETS = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
NAMES = sorted(folder.name for folder in (ROOT / "models").iterdir())
ON_DIGITS = [name for name in NAMES if zoo.find(name).dataset == "mnist"]


@dataclass(frozen=True)
class Committed:
    """A committed model."""

    folder: Path
    card: Card
    model: OnnxModel

    @property
    def version(self) -> Path:
        return self.folder / "1"


def committed(name: str) -> Committed:
    version = ROOT / "models" / name / "1"
    model = OnnxModel((version / "model.onnx").read_bytes(), source="model.onnx")
    return Committed(version.parent, read_card(version / "card.json"), model)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return idx.read(MNIST / "t10k-images-idx3-ubyte.gz", rank=3)[..., np.newaxis]


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return idx.read(MNIST / "t10k-labels-idx1-ubyte.gz", rank=1)


def test_all_of_them_together_are_small_enough_for_a_repository() -> None:
    files = [path for path in (ROOT / "models").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 15e6


@pytest.mark.parametrize("name", NAMES)
def test_the_model_file_is_the_one_that_the_card_describes(name: str) -> None:
    it = committed(name)
    verify_model_file(it.card, it.version / "model.onnx")


@pytest.mark.parametrize("name", NAMES)
def test_the_figures_of_a_card_agree_with_each_other(name: str) -> None:
    """The matrix, recall and errors are of the same samples as the accuracy, the bins of the same as the ECE."""
    evaluation, calibration = committed(name).card.evaluation, committed(name).card.calibration
    assert evaluation is not None
    assert evaluation.confusion is not None
    assert calibration is not None
    counts = np.array(evaluation.confusion.counts)
    assert counts.sum() == evaluation.samples
    assert counts.trace() == round(evaluation.metrics["accuracy"] * evaluation.samples)
    assert dict(zip(evaluation.confusion.labels, counts.sum(axis=1), strict=True)) == evaluation.per_class_samples
    recall = dict(zip(evaluation.confusion.labels, counts.diagonal() / counts.sum(axis=1), strict=True))
    assert recall == pytest.approx(evaluation.per_class_recall, abs=1e-12)
    assert len(evaluation.surest_errors) == 16
    assert all(error.picture for error in evaluation.surest_errors)
    filled = [each for each in calibration.reliability if each.samples]
    gaps = [each.samples * abs((each.accuracy or 0) - (each.confidence or 0)) for each in filled]
    assert sum(gaps) / evaluation.samples == pytest.approx(calibration.expected_calibration_error)


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_samples_replay_within_the_tolerance(name: str) -> None:
    it = committed(name)
    golden = read_golden(it.version / "golden.npz")
    assert replay(golden, it.model.run, it.card.tolerance("CPUExecutionProvider")) <= 1e-5


def test_golden_samples_from_before_the_protocol_are_test_images(images: np.ndarray) -> None:
    golden = read_golden(committed("mnist-cnn").version / "golden.npz")
    np.testing.assert_array_equal(golden.inputs["image"], images[:16])


def test_golden_samples_of_a_final_run_are_no_test_images(images: np.ndarray) -> None:
    seen = {image.tobytes() for image in images}
    golden = read_golden(committed("mnist").version / "golden.npz")
    assert len(golden.inputs["image"]) == 16
    assert not any(image.tobytes() in seen for image in golden.inputs["image"])


@pytest.mark.parametrize("name", NAMES)
def test_config_and_labels_describe_the_model(name: str) -> None:
    it = committed(name)
    labels = tuple((it.folder / "labels.txt").read_text().splitlines())
    assert len(labels) == 10
    check_agrees(it.folder / "config.pbtxt", it.model, labels)


@pytest.mark.parametrize("name", NAMES)
def test_the_card_names_the_official_data_the_recipe_and_its_seed(name: str) -> None:
    card, recipe = committed(name).card, zoo.find(name)
    assert (card.recipe, card.seed, card.parameters) == (recipe.name, recipe.seed, recipe.parameters)
    assert card.dataset is not None
    assert card.dataset.name == DATASETS[recipe.dataset]
    assert ("JPEG" in card.dataset.note) == (recipe.dataset == "cifar10")


@pytest.mark.parametrize("name", NAMES)
def test_the_card_promises_what_the_recipe_measured(name: str) -> None:
    card, recipe = committed(name).card, zoo.find(name)
    assert card.evaluation is not None
    assert (card.evaluation.split, card.evaluation.samples) == ("test", 10_000)
    accuracy = card.evaluation.metrics["accuracy"]
    assert accuracy == pytest.approx(recipe.measured[recipe.seed], abs=1e-4)


# The greatest expected calibration error, to three digits: of 10,000 images, more say nothing.
HONEST = 0.010


@pytest.mark.parametrize("name", [name for name in NAMES if name in DATASETS])
def test_a_flagships_probabilities_can_be_taken_at_their_word(name: str) -> None:
    calibration = committed(name).card.calibration
    assert calibration is not None
    assert calibration.temperature is not None
    assert round(calibration.expected_calibration_error, 3) <= HONEST


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_DIGITS)
def test_all_10000_test_images_give_the_cards_figures(name: str, images: np.ndarray, labels: np.ndarray) -> None:
    it = committed(name)
    figures = measure(it.model.run({"image": images})["probabilities"], labels, DIGITS, split="test")
    assert it.card.evaluation is not None
    assert figures.evaluation.metrics == pytest.approx(it.card.evaluation.metrics, abs=1e-4)
    assert figures.evaluation.per_class_recall == pytest.approx(it.card.evaluation.per_class_recall, abs=2e-3)
    assert it.card.calibration is not None
    assert figures.calibration is not None
    assert figures.calibration.expected_calibration_error == pytest.approx(
        it.card.calibration.expected_calibration_error, abs=1e-3
    )
