"""A network that learns from a teacher beside the labels."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr

from pixelserve_training import datasets, frameworks, learners, zoo
from pixelserve_training.datasets import Dataset, Split
from pixelserve_training.learners import keeping, members, network, teaching
from pixelserve_training.recipe import KerasRecipe, Optimizer, Regularization, Teacher
from pixelserve_training.running import overrides, runs
from pixelserve_training.running.checkpoint import Best, Checkpoint, State

Command = Callable[..., Any]

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]


def build(classes: int, *, hidden: int) -> Any:
    """Returns a network of so many hidden units, with probabilities in float32."""
    keras = frameworks.load().keras
    layers = keras.layers
    image = keras.Input((28, 28, 1), dtype="uint8", name="image")
    features = layers.Dense(hidden, activation="relu")(layers.Flatten()(layers.Rescaling(1 / 255)(image)))
    return keras.Model(image, layers.Dense(classes, activation="softmax", dtype="float32")(features))


build_teacher = partial(build, hidden=12)


@pytest.fixture
def taught_recipe(small_recipe: KerasRecipe) -> KerasRecipe:
    teacher = Teacher(build=build_teacher, weight=9.0, temperature=4.0)
    changes: dict[str, Any] = {"precision": "mixed_bfloat16", "epochs": 2}
    return replace(small_recipe, build=partial(build, hidden=8), teacher=teacher, **changes)


@pytest.fixture
def stripes(data_dir: Path) -> Dataset:
    """Noise with a bright stripe, whose height in the image is the class."""
    dataset = datasets.load("mnist", data_dir)
    train = dataset.train
    images = train.inputs // 3
    for image, label in zip(images, train.targets, strict=True):
        image[2 * label : 2 * label + 4] += 150
    return replace(dataset, train=Split(images, train.targets))


def random_probabilities(seed: int) -> Any:
    return np.exp(log_softmax(np.random.default_rng(seed).normal(0, 5, (20, 10)), axis=1)).astype(np.float32)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergence_is_that_of_the_softened_probabilities(temperature: float, keras: Any) -> None:
    given, wanted = random_probabilities(0), random_probabilities(1)
    soft_given, soft_wanted = (
        np.exp(log_softmax(np.log(each.astype(np.float64)) / temperature, axis=1)) for each in (given, wanted)
    )
    expected = temperature**2 * rel_entr(soft_wanted, soft_given).sum(axis=1).mean()
    assert float(teaching.divergence(given, wanted, temperature)) == pytest.approx(expected, rel=1e-5)
    assert float(teaching.divergence(given, given, temperature)) == pytest.approx(0, abs=1e-5)


def test_probabilities_of_0_leave_the_divergence_finite(keras: Any) -> None:
    given, wanted = np.eye(3, dtype=np.float32), np.roll(np.eye(3, dtype=np.float32), 1, axis=0)
    assert np.isfinite(float(teaching.divergence(given, wanted, 4.0)))


def test_a_teacher_adds_to_the_loss_while_the_network_learns_and_never_changes(
    taught_recipe: KerasRecipe, data_dir: Path
) -> None:
    split = datasets.load("mnist", data_dir).train
    teacher = network.Network(build_teacher(10), {}, None)
    before = teacher.model.get_weights()
    learner = network._learner(taught_recipe, 10, teacher)
    learner.compile(len(split))
    assert [weights.path for weights in learner.augmented.weights] == [each.path for each in learner.model.weights]
    wanted = split.inputs, split.targets
    watched = learner.augmented.evaluate(*wanted, verbose=0, return_dict=True)["loss"]
    alone = network._learner(replace(taught_recipe, teacher=None), 10)
    alone.model.set_weights(learner.model.get_weights())
    alone.compile(len(split))
    assert watched == pytest.approx(alone.augmented.evaluate(*wanted, verbose=0, return_dict=True)["loss"], rel=1e-6)
    far = float(teaching.divergence(learner.model(split.inputs), teacher.model(split.inputs), 4.0))
    losses = learner.augmented.fit(*wanted, batch_size=64, verbose=0).history["loss"]
    # The one step's loss is that of the weights before it; the teacher computed in bfloat16.
    assert losses[0] == pytest.approx(watched + 9 * far, rel=0.05)
    assert far > 0.1
    for ours, kept in zip(teacher.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, kept)


def test_a_taught_network_comes_closer_to_its_teacher_than_one_that_learns_alone(
    taught_recipe: KerasRecipe, stripes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    teachers: list[network.Network] = []
    original = members.train

    def train(*arguments: Any) -> network.Network:
        teachers.append(original(*arguments))
        return teachers[-1]

    monkeypatch.setattr(members, "train", train)
    recipe = replace(taught_recipe, epochs=40, optimizer=Optimizer(learning_rate=0.003))
    taught = learners.fit(recipe, stripes)
    alone = learners.fit(replace(recipe, teacher=None), stripes)
    pixels = stripes.train.inputs
    wanted = teachers[0].predict(pixels)
    assert (wanted.argmax(axis=1) == stripes.train.targets).mean() > 0.95
    distances = [float(teaching.divergence(each.predict(pixels), wanted, 4.0)) for each in (taught, alone)]
    assert distances[0] < distances[1] / 2
    assert taught.parameters == 6_370
    # The curve of what is learned from labels, which that of held-out samples can be compared with.
    assert [len(taught.history[name]) for name in ("loss", "loss_with_teacher", "accuracy")] == [40, 40, 40]
    assert np.all(np.greater(taught.history["loss_with_teacher"], taught.history["loss"]))
    assert taught.history["loss"][-1] < 1 < taught.history["loss"][0]


@pytest.fixture
def train(
    taught_recipe: KerasRecipe, pixelserve: Command, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Runs `pixelserve train` of that recipe; the run's folder is tmp_path/run."""
    monkeypatch.setattr(zoo, "find", lambda _: taught_recipe)

    def run(*arguments: object) -> Any:
        return pixelserve("train", "small", "--data-dir", data_dir, "--run-dir", tmp_path / "run", *arguments)

    return run


def test_a_stopped_run_goes_on_with_the_teacher_that_it_had(
    train: Command, taught_recipe: KerasRecipe, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timeline: 1. the teacher is trained, and the network is begun; 2. the signal; 3. --resume trains the network
    alone; 4. it equals that of an uninterrupted run."""
    original = network.fit_splits

    def fit_splits(*arguments: Any, **options: Any) -> network.Network:
        if options.get("teacher") is not None:
            signal.raise_signal(signal.SIGINT)
        return original(*arguments, **options)

    monkeypatch.setattr(network, "fit_splits", fit_splits)
    stopped = train()
    assert stopped.exit_code == 130
    assert f"the run was stopped; teacher: trained and saved in {tmp_path}/run.partial; continue with: " in stopped.err
    assert sorted(path.name for path in (tmp_path / "run.partial").iterdir()) == ["state.json", "teacher.keras"]
    before_s = json.loads((tmp_path / "run.partial" / "state.json").read_text())["training_s"]

    monkeypatch.setattr(network, "fit_splits", original)
    resumed = train("--resume")
    assert resumed.exit_code == 0, resumed.err
    assert "teacher was trained before" in resumed.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    # The teacher's time is the run's as well.
    assert metrics["training_s"] > before_s > 0
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert [settings["learner"][f"teacher.{name}"] for name in ("weight", "temperature")] == [9.0, 4.0]
    weights = frameworks.load().keras.saving.load_model(tmp_path / "run" / "model.keras").get_weights()
    undisturbed = learners.fit(taught_recipe, datasets.load("mnist", data_dir))
    for ours, theirs in zip(weights, undisturbed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_ensembles_members_have_no_teacher(taught_recipe: KerasRecipe, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = overrides.apply(taught_recipe, {"ensemble": "bagging"})
    assert isinstance(recipe, KerasRecipe)
    assert recipe.teacher is None
    assert "an ensemble's members learn without the teacher that small alone has" in capsys.readouterr().err


def test_a_taught_run_that_goes_on_can_stop_early(
    taught_recipe: KerasRecipe, stripes: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Timeline: 1. two epochs are over, the first of which was by far the best; 2. the run goes on, with the teacher
    that it had; 3. the third is no better, so it ends with the weights of the first."""
    recipe = replace(taught_recipe, held_out=0.25, regularization=Regularization(patience=2))
    settings = runs.Settings(recipe="small", seed=0, dataset="MNIST", dataset_sha256="")
    checkpoint = Checkpoint(tmp_path / "run", State(settings=settings, request={}))
    learners.fit(replace(recipe, epochs=1), stripes, checkpoint)
    best = keeping.best_weights(checkpoint)
    # Nothing will be better, so that it stays the best model that is kept.
    unbeaten = Best(epoch=1, name="val_loss", figure=0.0)
    checkpoint.state = checkpoint.state.model_copy(update={"best": unbeaten})
    learners.fit(replace(recipe, epochs=2), stripes, checkpoint)
    ended = learners.fit(replace(recipe, epochs=4), stripes, checkpoint)
    assert "teacher was trained before" in capsys.readouterr().err
    assert len(ended.history["loss"]) == 3
    for ours, theirs in zip(ended.model.get_weights(), best, strict=True):
        np.testing.assert_array_equal(ours, theirs)
