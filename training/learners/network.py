"""Trains a network with Keras."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import frameworks
from ..datasets import Array, Dataset, Split, hold_out
from ..errors import UsageError
from ..measuring.calibrate import are_enough, divide_logits, find_temperature
from ..progress import TrainingProgress, say
from ..recipe import KerasRecipe
from ..report import Layer
from ..running.checkpoint import Checkpoint
from ..running.runs import MODEL
from . import averaging, balancing, keeping, regularize, stopping, watching
from .mirroring import mirrored
from .mixing import cut_mixed
from .teaching import taught

_PREDICTION_BATCH = 500
_STEPS_TOGETHER = 100
_LABELS_LOSS = "loss_of_labels"


@dataclass(frozen=True)
class Network:
    """A trained Keras model; see `Trained`."""

    model: Any
    """It, in float32."""
    history: dict[str, list[float]]
    """Figures by name, one entry per epoch."""
    temperature: float | None
    """The temperature of its logits, already applied to its last layer's weights."""
    also_saved_as: tuple[str, ...] = ()
    """Suffixes of additional files to write."""

    @property
    def parameters(self) -> int:
        """Weights in the model."""
        return int(self.model.count_params())

    @property
    def layers(self) -> list[Layer]:
        """The model's layers in order; those of a model inside it one by one."""
        return list(_layers(self.model))

    def predict(self, inputs: Array) -> Array:
        """Returns the model's outputs."""
        return np.asarray(self.model.predict(inputs, batch_size=_PREDICTION_BATCH, verbose=0))

    def save(self, folder: Path) -> None:
        """Writes model.keras and the recipe's additional files."""
        for path in (folder / MODEL, *((folder / MODEL).with_suffix(suffix) for suffix in self.also_saved_as)):
            try:
                self.model.save(path)
            except RuntimeError as error:
                # HDF5's error for a full disk that it notices when closing an .h5 file.
                raise OSError(str(error)) from error


def _of_labels(figures: dict[str, list[float]]) -> dict[str, list[float]]:
    """Returns a taught network's figures, with the loss on labels as the loss."""
    figures = dict(figures)
    figures["loss_with_teacher"], figures["loss"] = figures["loss"], figures.pop(_LABELS_LOSS)
    figures.pop(f"val_{_LABELS_LOSS}", None)
    return figures


def _layers(model: Any, prefix: str = "") -> Iterator[Layer]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer, f"{prefix}{layer.name}/")
        else:
            shape = tuple(layer.output.shape)
            yield Layer(f"{prefix}{layer.name}", type(layer).__name__, shape, int(layer.count_params()))


def fit(recipe: KerasRecipe, dataset: Dataset, checkpoint: Checkpoint | None = None) -> Network:
    """Trains a network; deterministic for a recipe, data and seed on one machine.

    An interrupted run continues after its last completed epoch. Its samples then come in another order than without the
    interruption, so its weights differ.

    Args:
        recipe: the recipe to train.
        dataset: its data set.
        checkpoint: keeps each epoch and is resumed from, or None.

    Raises:
        UsageError: the network cannot be regularised as the recipe says, or Keras does not take its optimizer's values.
        SourceError: the checkpoint is damaged.
        WriteError: the checkpoint cannot be written.
        DivergedError: the loss became NaN or infinite.
    """
    splits = hold_out(dataset.train, recipe.held_out)
    return fit_splits(recipe, *splits, classes=len(dataset.labels), checkpoint=checkpoint)


def fit_splits(
    recipe: KerasRecipe,
    train: Split,
    held_out: Split,
    *,
    classes: int,
    checkpoint: Checkpoint | None = None,
    teacher: Network | None = None,
) -> Network:
    """Trains a network on `train` and evaluates it on `held_out`, which may be empty; see `fit`.

    With a teacher, the network also learns its probabilities.
    """
    libraries = frameworks.load()
    libraries.keras.utils.set_random_seed(recipe.seed)
    # Sums in another order would give other weights for the same seed.
    libraries.tf.config.experimental.enable_op_determinism()
    if recipe.repeats > 1:
        train = train.take(np.tile(np.arange(len(train)), recipe.repeats))
    train = balancing.sampled(recipe, train)
    learner = _learner(recipe, classes, teacher)
    if recipe.initialize is not None:
        recipe.initialize(learner.model, train.inputs)
    say(f"training {recipe.name} on {len(train):,} samples: {learner.model.count_params():,} parameters")
    learner.compile(len(train))
    history = learner.fit(train, held_out, checkpoint)
    model = learner.finished()
    temperature = _calibrate(model, held_out) if recipe.calibrated and are_enough(len(held_out)) else None
    return Network(model, history, temperature, recipe.also_saved_as)


@dataclass(frozen=True)
class _Learner:
    """A model in training: the one to save, and the one to fit."""

    recipe: KerasRecipe
    classes: int
    model: Any
    # The model behind augmentation layers, with its teacher's loss.
    augmented: Any
    augmentation: list[Any]

    def compile(self, samples: int) -> None:
        keras = frameworks.load().keras
        steps = self.recipe.epochs * -(-samples // self.recipe.batch_size)
        loss: Any = self.recipe.loss
        if self.recipe.label_smoothing:
            loss = keras.losses.CategoricalCrossentropy(label_smoothing=self.recipe.label_smoothing)
        metrics: list[Any] = [] if self.recipe.loss == "mean_squared_error" else ["accuracy"]
        if self.recipe.teacher is not None:
            # The minimised loss includes more, and is not comparable with the held-out loss.
            metrics.append(keras.metrics.MeanMetricWrapper(keras.losses.get(loss), name=_LABELS_LOSS))
        # Steps on a few rows are faster than a return to Python after each.
        together = _STEPS_TOGETHER if self.recipe.repeats > 1 else 1
        optimizer = optimizer_of(self.recipe, steps)
        self.augmented.compile(optimizer=optimizer, loss=loss, metrics=metrics, steps_per_execution=together)

    def fit(self, train: Split, held_out: Split, checkpoint: Checkpoint | None = None) -> dict[str, list[float]]:
        before = self._restore(checkpoint) if checkpoint is not None else {}
        steps = -(-len(train) // self.recipe.batch_size)
        progress = TrainingProgress(epochs=self.recipe.epochs, steps=steps)
        watched = _batches(held_out.inputs, self._targets(held_out), _PREDICTION_BATCH) if len(held_out) else None
        batches = self._training_batches(train)
        averaged = self._averaging(train) if self.recipe.optimizer.averaging is not None else None
        progress.start()
        try:
            history = self.augmented.fit(
                batches,
                initial_epoch=self._first_epoch(checkpoint),
                epochs=self.recipe.epochs,
                validation_data=watched,
                class_weight=balancing.class_weights(self.recipe, train.targets),
                # The batches are already shuffled.
                shuffle=False,
                verbose=0,
                # In this order: what is kept, and what early stopping ends with, is the average.
                callbacks=[
                    watching.callback(progress),
                    *([averaged] if averaged is not None else []),
                    *keeping.callbacks(checkpoint, averaged, self.save),
                    *stopping.callbacks(self.recipe, checkpoint),
                ],
            )
        finally:
            progress.stop()
        names = {**before, **history.history}
        figures = {name: [*before.get(name, []), *map(float, history.history.get(name, []))] for name in names}
        return _of_labels(figures) if _LABELS_LOSS in figures else figures

    def _training_batches(self, train: Split) -> Any:
        batches = _batches(train.inputs, self._targets(train), self.recipe.batch_size, shuffled=True)
        return cut_mixed(batches, self.recipe.cut_mix) if self.recipe.cut_mix else batches

    def _averaging(self, train: Split) -> Any:
        steps = max(min(len(train), averaging.SAMPLES) // self.recipe.batch_size, 1)
        # Samples may be sorted by class.
        chosen = np.random.default_rng(self.recipe.seed).permutation(len(train))[: steps * self.recipe.batch_size]
        return averaging.callback(self.model, self._training_batches(train.take(chosen)), self._augment)

    def _augment(self, samples: Any) -> Any:
        for layer in self.augmentation:
            samples = layer(samples, training=True)
        return samples

    def _restore(self, checkpoint: Checkpoint) -> dict[str, list[float]]:
        """Restores an interrupted run; returns the history of its completed epochs, if any."""
        epochs = checkpoint.state.epochs
        checkpoint.start()
        if epochs:
            keeping.restore(self.augmented, checkpoint)
            # A different order of samples than in the first epochs.
            frameworks.load().keras.utils.set_random_seed((self.recipe.seed + epochs) % 2**32)
            say(f"continuing after epoch {epochs} of {self.recipe.epochs}")
        return checkpoint.state.history

    def _first_epoch(self, checkpoint: Checkpoint | None) -> int:
        """Returns the first epoch to train, from 0; past the last one if training is complete."""
        if checkpoint is None:
            return 0
        return self.recipe.epochs if stopping.is_over(self.recipe, checkpoint) else checkpoint.state.epochs

    def _targets(self, split: Split) -> Array:
        if self.recipe.loss != "categorical_crossentropy":
            return split.targets
        return np.asarray(frameworks.load().keras.utils.to_categorical(split.targets, self.classes))

    def finished(self) -> Any:
        """Returns the model to save and export: in float32, mirrored if the recipe says so."""
        if self.recipe.precision == "float32" and not self.recipe.mirrored:
            return self.model
        self._finished_model.set_weights(self.model.get_weights())
        return self._finished_model

    @functools.cached_property
    def _finished_model(self) -> Any:
        model = regularize.build(self.recipe, self.classes)
        return mirrored(model) if self.recipe.mirrored else model

    def save(self, path: Path) -> None:
        """Writes the model as if the run ended with this epoch."""
        self.finished().save(path)


def _learner(recipe: KerasRecipe, classes: int, teacher: Network | None = None) -> _Learner:
    keras = frameworks.load().keras
    with _precision(recipe.precision):
        model = regularize.build(recipe, classes)
        learning = model if recipe.teacher is None or teacher is None else taught(model, recipe.teacher, teacher.model)
    before = recipe.augmentation() if recipe.augmentation is not None else []
    if not before and learning is model:
        return _Learner(recipe, classes, model, model, [])
    # Augmentation stays in front of the model and the teacher around it, so neither is exported.
    image = keras.Input(model.input_shape[1:], dtype="float32")
    return _Learner(recipe, classes, model, keras.Sequential([image, *before, learning]), before)


@contextlib.contextmanager
def _precision(policy: str) -> Iterator[None]:
    config = frameworks.load().keras.config
    before = config.dtype_policy()
    config.set_dtype_policy(policy)
    try:
        yield
    finally:
        config.set_dtype_policy(before)


def _batches(inputs: Array, targets: Array, size: int, *, shuffled: bool = False) -> Any:
    """Returns a tf.data.Dataset of batches, in the samples' order or reshuffled on each pass.

    Keras does nearly the same with arrays. But with deterministic operations its batches hold the same samples in every
    epoch; and it leaves tf.data's autotuning on, whose thread polls at growing intervals. Ending an iterator, as each
    epoch does, waits for the next poll: 40 s of an epoch of 200 s were spent waiting.
    """
    tf = frameworks.load().tf
    arrays = (tf.constant(inputs), tf.constant(targets))
    options = tf.data.Options()
    options.autotune.enabled = False
    indices = tf.data.Dataset.range(len(inputs))
    if shuffled:
        indices = indices.shuffle(len(inputs), reshuffle_each_iteration=True)
    batches = indices.batch(size).map(lambda batch: tuple(tf.gather(array, batch) for array in arrays))
    return batches.with_options(options)


def optimizer_of(recipe: KerasRecipe, steps: int) -> Any:
    """Returns Keras's optimizer for a run of so many steps.

    Raises:
        UsageError: Keras does not take the recipe's values.
    """
    keras, optimizer = frameworks.load().keras, recipe.optimizer
    rate: Any = optimizer.learning_rate
    if optimizer.schedule == "cosine":
        warmup_steps = round(steps * optimizer.warmup)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup_steps else rate,
            decay_steps=max(steps - warmup_steps, 1),
            warmup_target=rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    averaging = {} if optimizer.averaging is None else {"use_ema": True, "ema_momentum": optimizer.averaging}
    config = {"learning_rate": rate, **averaging, **optimizer.options}
    try:
        return keras.optimizers.get({"class_name": optimizer.name, "config": config})
    except Exception as error:  # whatever Keras's optimizers raise for values that they do not take
        values = ", ".join(f"{name}={value}" for name, value in optimizer.options.items())
        why = str(error).partition("\n")[0]
        raise UsageError(
            f"{recipe.name}: Keras does not take the optimizer {optimizer.name}({values}): {why}; correct its values"
        ) from error


def _calibrate(model: Any, held_out: Split) -> float:
    probabilities = np.asarray(model.predict(held_out.inputs, batch_size=_PREDICTION_BATCH, verbose=0))
    temperature = find_temperature(probabilities, held_out.targets)
    divide_logits(model, temperature)
    say(f"temperature {temperature:.3f}, found on {len(held_out):,} held-out samples")
    return temperature
