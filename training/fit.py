"""Trains a recipe: the run that `pixelserve train` starts."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import datasets, frameworks, runs, zoo
from .datasets import Dataset, Split
from .errors import UsageError
from .evaluate import Figures, measure
from .progress import TrainingProgress, say
from .recipe import Recipe
from .staging import check_free

_EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Overrides:
    """What the caller wants other than the recipe has it; None leaves it as it is."""

    epochs: int | None = None
    """Passes over the training split."""
    batch_size: int | None = None
    """Images a step."""
    seed: int | None = None
    """Fixes the initial weights and the order of the images."""

    def apply(self, recipe: Recipe) -> Recipe:
        """Returns the recipe with what is given here in its place.

        Raises:
            UsageError: a count below 1, or a seed that NumPy does not take.
        """
        for option, value, least in (
            ("epochs", self.epochs, 1),
            ("batch-size", self.batch_size, 1),
            ("seed", self.seed, 0),
        ):
            if value is not None and not least <= value < 2**32:
                raise UsageError(f"--{option} {value}: expected {least} to {2**32 - 1}")
        return replace(recipe, **{name: value for name, value in vars(self).items() if value is not None})


@dataclass(frozen=True)
class Run:
    """A run that is done."""

    recipe: Recipe
    """What was run, overrides included."""
    folder: Path
    """Where it was written to."""
    accuracy: float
    """On the official test split, a fraction of 1."""
    training_s: float
    """How long the training took, in seconds."""

    def as_json(self) -> dict[str, Any]:
        """Returns what `pixelserve train --json` prints."""
        return {
            "run": str(self.folder),
            "recipe": self.recipe.name,
            "seed": self.recipe.seed,
            "accuracy": self.accuracy,
            "claimed_accuracy": self.recipe.claimed_accuracy,
            "training_s": round(self.training_s, 1),
        }


def train(recipe_name: str, *, data_dir: Path | None, run_dir: Path | None, overrides: Overrides) -> Run:
    """Trains a recipe, measures the model on the test split and writes the run's folder.

    The same recipe, data and seed give the same weights on the same machine. Nothing is written where it fails.

    Args:
        recipe_name: its name in the zoo.
        data_dir: folder of the data set's official files; None: Keras's downloader.
        run_dir: the run's folder; None: one under runs/ named after the recipe and the time.
        overrides: what differs from the recipe.

    Raises:
        UsageError: an unknown recipe, a bad override, or a run folder that exists.
        DataError: the data set cannot be had.
        DivergedError: the loss became NaN or infinite.
    """
    recipe = overrides.apply(zoo.find(recipe_name))
    folder = run_dir or runs.default_folder(recipe.name)
    check_free(folder)
    dataset = datasets.load(recipe.dataset, data_dir)
    if dataset.note:
        say(f"note: {dataset.note}; figures are not comparable with published ones")
    model = _untrained(recipe)
    say(f"training {recipe.name} on {len(dataset.train.labels):,} images: {model.count_params():,} parameters")
    started_s = time.monotonic()
    history = _fit(recipe, model, dataset.train)
    training_s = time.monotonic() - started_s
    say(f"measuring on {len(dataset.test.labels):,} images")
    figures = _measure(model, dataset)
    metrics = _metrics(figures) | {"training_s": round(training_s, 1)}
    runs.write(folder, _settings(recipe, dataset), runs.Outcome(model, history, metrics))
    return Run(recipe, folder, figures.accuracy, training_s)


def _untrained(recipe: Recipe) -> Any:
    libraries = frameworks.load()
    libraries.keras.utils.set_random_seed(recipe.seed)
    # Sums whose order changes from run to run would give other weights for the same seed.
    libraries.tf.config.experimental.enable_op_determinism()
    model = recipe.build()
    averaging = {} if recipe.averaging is None else {"use_ema": True, "ema_momentum": recipe.averaging}
    config = {"learning_rate": recipe.learning_rate, **averaging}
    # Keras replaces the weights by their average at the end of fit.
    optimizer = libraries.keras.optimizers.get({"class_name": recipe.optimizer, "config": config})
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _fit(recipe: Recipe, model: Any, split: Split) -> dict[str, list[float]]:
    steps = -(-len(split.labels) // recipe.batch_size)
    progress = TrainingProgress(epochs=recipe.epochs, steps=steps)
    progress.start()
    try:
        history = model.fit(
            split.images,
            split.labels,
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            verbose=0,
            callbacks=[_callback(progress)],
        )
    finally:
        progress.stop()
    return {name: [float(value) for value in values] for name, values in history.history.items()}


def _callback(progress: TrainingProgress) -> Any:
    """Returns a Keras callback that tells `progress`; its base class is there only once Keras is loaded."""

    class Callback(frameworks.load().keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        epoch = 0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch
            progress.begin_epoch(epoch)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            progress.end_step(self.epoch, batch, logs)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            progress.end_epoch(epoch, logs)

    return Callback()


def _measure(model: Any, dataset: Dataset) -> Figures:
    scores = model.predict(dataset.test.images, batch_size=_EVALUATION_BATCH, verbose=0)
    return measure(scores, dataset.test.labels, dataset.labels, split="test")


def _metrics(figures: Figures) -> dict[str, Any]:
    metrics = figures.evaluation.model_dump()
    if figures.calibration is not None:
        metrics["expected_calibration_error"] = figures.calibration.expected_calibration_error
    return metrics


def _settings(recipe: Recipe, dataset: Dataset) -> runs.Settings:
    return runs.Settings(
        recipe=recipe.name,
        seed=recipe.seed,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        optimizer=recipe.optimizer,
        learning_rate=recipe.learning_rate,
        averaging=recipe.averaging,
        dataset=dataset.name,
        dataset_sha256=dataset.sha256,
    )
