"""Final runs: all samples are learned with the settings, the temperature and the figures of the run that chose."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.card import read_card
from pixelserve_training import datasets, learners, zoo
from pixelserve_training.datasets import Array, Dataset, Split
from pixelserve_training.errors import SourceError, UsageError
from pixelserve_training.learners import network
from pixelserve_training.learners.network import Network
from pixelserve_training.measuring import calibrate
from pixelserve_training.recipe import KerasRecipe, Regularization
from pixelserve_training.running import final, fit, runs

Command = Callable[..., Any]

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]

# Of the 64 training images.
HELD_OUT = 16


@pytest.fixture(scope="module")
def recipe(small_recipe: KerasRecipe) -> KerasRecipe:
    return replace(small_recipe, calibrated=True, held_out=HELD_OUT / 64)


@pytest.fixture(scope="module")
def choice(recipe: KerasRecipe, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that holds a quarter out, of two epochs, by an option."""
    run = tmp_path_factory.mktemp("choices") / "choice"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo, "find", lambda _: recipe)
        patch.setattr(calibrate, "LEAST_SAMPLES", HELD_OUT)
        fit.train("small", data_dir=data_dir, run_dir=run, overrides={"epochs": 2})
    return run


@pytest.fixture
def train(
    recipe: KerasRecipe, pixelserve: Command, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Runs `pixelserve train small` with further arguments; the run's folder is tmp_path/run."""
    monkeypatch.setattr(zoo, "find", lambda _: recipe)

    def run(*arguments: object) -> Any:
        return pixelserve("train", "small", "--data-dir", data_dir, "--run-dir", tmp_path / "run", *arguments)

    return run


def read(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text())


def test_a_final_run_learns_all_samples_with_the_options_of_the_run_that_chose(
    train: Command, choice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[tuple[int, int, int]] = []
    original = learners.fit

    def fit(recipe: Any, dataset: Dataset, *checkpoint: Any) -> Any:
        learned.append((recipe.seed, recipe.epochs, len(datasets.hold_out(dataset.train, recipe.held_out)[0])))
        return original(recipe, dataset, *checkpoint)

    monkeypatch.setattr(learners, "fit", fit)
    ran = train("--final", choice, "--seed", 3)
    assert ran.exit_code == 0, ran.err
    assert learned == [(3, 2, 64)]
    settings = read(tmp_path / "run", "settings.json")
    assert settings["chosen_by"] == {"run": str(choice), "seed": 0, "held_out": 0.25}


def test_a_final_run_has_the_figures_and_the_temperature_of_the_run_that_chose(
    train: Command, choice: Path, tmp_path: Path
) -> None:
    ran = train("--final", choice, "--json")
    assert ran.exit_code == 0, ran.err
    said, metrics, chosen = json.loads(ran.out), read(tmp_path / "run", "metrics.json"), read(choice, "metrics.json")
    assert (said["split"], said["samples"]) == ("validation", HELD_OUT)
    assert said["accuracy"] == chosen["validation"]["metrics"]["accuracy"]
    assert said["chosen_by"]["run"] == str(choice)
    assert metrics["temperature"] == chosen["temperature"]
    assert metrics["validation"].pop("choice_run") == {"run": "choice", "seed": 0}
    assert metrics["validation"] == chosen["validation"]
    assert "test" not in metrics


def test_a_final_run_says_whose_figures_it_has(train: Command, choice: Path) -> None:
    ran = train("--final", choice)
    assert f"these are figures of {choice} (seed 0): this network learned those samples as well" in ran.out
    assert "pixelserve evaluate small --split test" in ran.out


def test_data_without_a_test_split_is_measured_by_new_samples(pixelserve: Command, tmp_path: Path) -> None:
    """A network that held half of four samples out is not measured on what it learned, and neither is its final one."""
    choice, folder = tmp_path / "choice", tmp_path / "run"
    chose = pixelserve("train", "xor", "--hold-out", 0.5, "--epochs", 1, "--run-dir", choice)
    assert "which it learned" not in chose.out
    assert chose.out.startswith("validation accuracy ")
    ran = pixelserve("train", "xor", "--final", choice, "--run-dir", folder, "--json")
    assert (json.loads(ran.out)["split"], json.loads(ran.out)["samples"]) == ("validation", 2)
    again = pixelserve("train", "xor", "--final", choice, "--run-dir", folder, "--resume")
    assert "so only new samples can measure it, once it is exported: pixelserve evaluate xor --samples FI" in again.out
    for run in (choice, folder):
        assert pixelserve("export", run, "--name", run.name, "--to", tmp_path / "models").exit_code == 0
        evaluation = read_card(tmp_path / "models" / run.name / "1" / "card.json").evaluation
        assert evaluation is not None
        assert (evaluation.split, evaluation.samples) == ("validation", 2)


def test_the_chosen_temperature_divides_the_final_networks_logits(choice: Path, keras: Any) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    rows = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    before = model.predict(rows, verbose=0)
    chosen = replace(final.read(choice, "small"), temperature=1.7)
    trained = final.calibrate(Network(model, {}, temperature=None), chosen)
    assert trained.temperature == 1.7
    np.testing.assert_allclose(trained.predict(rows), calibrate.apply_temperature(before, 1.7), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--epochs", 3), "its epochs was 2, and is 3 now"),
        (("--lr", 0.5), "its optimizer.learning_rate was 0.001, and is 0.5 now"),
        (("--hold-out", 0.5), "its held_out was 0.25, and is 0.5 now"),
    ],
)
def test_another_setting_than_the_chosen_one_is_refused_by_name(
    train: Command, choice: Path, tmp_path: Path, options: tuple[object, ...], said: str
) -> None:
    ran = train("--final", choice, *options)
    assert ran.exit_code == 2
    assert said in ran.err
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_changed_since_the_choice_is_refused(
    train: Command, choice: Path, recipe: KerasRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "find", lambda _: replace(recipe, batch_size=16))
    assert "its batch_size was 32, and is 16 now" in train("--final", choice).err


def test_other_data_than_the_chosen_is_refused(
    train: Command, choice: Path, make_idx: Callable[..., Path], tmp_path: Path
) -> None:
    ran = train("--final", choice, "--data-dir", make_idx(tmp_path / "other", train=60))
    assert (ran.exit_code, "its dataset_sha256 was" in ran.err) == (2, True)


def test_a_run_that_cannot_choose_says_why(choice: Path, tmp_path: Path) -> None:
    settings, figures = runs.read_settings(choice), (choice / "figures.json").read_text()
    broken = {
        "it is a final run itself": (settings.model_copy(update={"chosen_by": _CHOSEN_BY}), figures),
        "it held out no samples": (settings, figures.replace('"validation"', '"training"')),
        "it is a run of an earlier release": (settings.model_copy(update={"hold_out": None}), figures),
    }
    for number, (said, (its_settings, its_figures)) in enumerate(broken.items()):
        run = tmp_path / str(number)
        run.mkdir()
        (run / "settings.json").write_text(its_settings.model_dump_json())
        (run / "figures.json").write_text(its_figures)
        (run / "metrics.json").write_text('{"temperature": null}')
        with pytest.raises((UsageError, SourceError), match=said):
            final.read(run, "small")
    with pytest.raises(UsageError, match="it is a run of small, not of mnist"):
        final.read(choice, "mnist")
    with pytest.raises(SourceError, match="is not a run's folder"):
        final.read(tmp_path, "small")


_CHOSEN_BY = runs.ChosenBy(run="runs/first", seed=0, held_out=0.1)


def test_early_stopping_gives_the_final_run_the_epoch_that_was_kept(recipe: KerasRecipe, choice: Path) -> None:
    chosen = replace(final.read(choice, "small"), epochs=7)
    adapted = final.adapt(replace(recipe, folds=5, regularization=Regularization(patience=3)), chosen)
    assert isinstance(adapted, KerasRecipe)
    assert (adapted.epochs, adapted.regularization.patience, adapted.held_out, adapted.folds) == (7, None, 0.0, None)


def test_the_epoch_kept_by_early_stopping_is_that_of_the_lowest_held_out_loss(train: Command, tmp_path: Path) -> None:
    assert train("--epochs", 3, "--early-stopping", 2).exit_code == 0
    losses = read(tmp_path / "run", "history.json")["val_loss"]
    assert final.read(tmp_path / "run", "small").epochs == 1 + losses.index(min(losses))


class Sealed(Split):
    """A test split that must not be read."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("inputs", "targets"):
            raise AssertionError("the test split was read")
        return super().__getattribute__(name)


def test_neither_training_nor_export_reads_a_sealed_test_split(
    train: Command, pixelserve: Command, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timeline: 1. a run chooses; 2. the final run; 3. both are exported."""
    load = datasets.load

    def loaded(name: str, folder: Path | None) -> Dataset:
        dataset = load(name, folder)
        return replace(dataset, test=Sealed(dataset.test.inputs, dataset.test.targets))

    monkeypatch.setattr(datasets, "load", loaded)
    run, models = tmp_path / "run", tmp_path / "models"
    assert train().exit_code == 0
    last = pixelserve("train", "small", "--data-dir", data_dir, "--final", run, "--run-dir", tmp_path / "final")
    assert last.exit_code == 0, last.err
    for folder in (run, tmp_path / "final"):
        ran = pixelserve("export", folder, "--to", models, "--data-dir", data_dir)
        assert ran.exit_code == 0, ran.err
    own, of_choice = (read_card(models / "small" / number / "card.json") for number in ("1", "2"))
    for card in (own, of_choice):
        assert card.evaluation is not None
        assert (card.evaluation.split, card.evaluation.samples) == ("validation", HELD_OUT)
    assert own.evaluation is not None
    assert of_choice.evaluation is not None
    assert own.evaluation.choice_run is None
    assert (own.held_out, own.hold_out) == (0.25, "stratified")
    assert of_choice.evaluation.choice_run is not None
    assert of_choice.evaluation.choice_run.run == "run"
    assert of_choice.held_out == 0.0


def test_with_fewer_held_out_samples_nothing_is_calibrated_and_that_is_said(
    recipe: KerasRecipe, data_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trained = network.fit(recipe, datasets.load("mnist", data_dir))
    assert trained.temperature is None
    assert "a temperature needs at least 1,000 held-out samples, and there are 16" in capfd.readouterr().err


def test_few_samples_are_calibrated_by_cross_fitting(
    train: Command, recipe: KerasRecipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Too few are held out, but by folds all 64 samples have probabilities of networks that did not learn them."""
    monkeypatch.setattr(calibrate, "LEAST_SAMPLES", 64)
    ran = train("--folds", 2)
    assert ran.exit_code == 0, ran.err
    assert "found on 64 samples by cross-fitting" in ran.err
    assert read(tmp_path / "run", "metrics.json")["temperature"] > 0


def test_a_number_of_samples_can_be_held_out(train: Command, tmp_path: Path) -> None:
    assert train("--hold-out", 10).exit_code == 0
    assert read(tmp_path / "run", "metrics.json")["validation"]["samples"] == 10


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (-0.1, "--hold-out -0.1: it should be greater than or equal to 0"),
        (2.5, "expected a share between 0 and 1, or a whole number of samples"),
        (64, "--hold-out 64: MNIST has 64 training samples, some of which must be learned"),
    ],
)
def test_what_cannot_be_held_out_is_refused(train: Command, number: float, said: str) -> None:
    ran = train("--hold-out", number)
    assert ran.exit_code == 2
    assert said in ran.err


def test_every_class_has_its_share_of_what_is_held_out_and_a_smaller_share_is_a_prefix() -> None:
    labels: Array = np.repeat([0, 1, 2], [600, 300, 100])
    split = Split(np.arange(1000), labels)
    for share in (0.01, 0.1, 0.25):
        learned, held_out = datasets.hold_out(split, share)
        assert np.bincount(held_out.targets).tolist() == [600 * share, 300 * share, 100 * share]
        assert sorted([*learned.inputs, *held_out.inputs]) == list(range(1000))
    smaller, larger = (datasets.hold_out(split, share)[1].inputs.tolist() for share in (0.1, 0.25))
    assert smaller == larger[:100]


def test_values_are_held_out_without_classes() -> None:
    split = Split(np.arange(10), np.arange(10, dtype=np.float32))
    assert datasets.hold_out(split, 0.3)[1].targets.tolist() == [8, 4, 7]


def test_a_final_run_is_not_compared_with_a_serving_version(
    train: Command, pixelserve: Command, choice: Path, data_dir: Path, tmp_path: Path
) -> None:
    assert train("--final", choice).exit_code == 0
    ran = pixelserve("export", tmp_path / "run", "--to", tmp_path / "models", "--data-dir", data_dir, "--if-better")
    assert ran.exit_code == 2
    assert f"is a final run, which learned all samples, so none is left to compare versions on; compare {choice}" in (
        ran.err.replace("the run that it was made from: pixelserve export ", "")
    )
