"""Learns a network with Keras."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import frameworks
from ..calibrate import divide_logits, find_temperature
from ..datasets import Array, Dataset, Split, hold_out
from ..errors import DivergedError
from ..progress import TrainingProgress, say
from ..recipe import KerasRecipe, Optimizer
from ..report import Layer
from ..runs import MODEL
from . import regularize, stopping

_PREDICTION_BATCH = 500
_STEPS_TOGETHER = 100


@dataclass(frozen=True)
class Network:
    """A trained Keras model; see `Trained`."""

    model: Any
    """It, in float32."""
    history: dict[str, list[float]]
    """Figures by name, an entry an epoch."""
    temperature: float | None
    """What its logits are divided by, in its last layer's weights already."""
    also_saved_as: tuple[str, ...] = ()
    """Suffixes of more files to write."""

    @property
    def parameters(self) -> int:
        """Weights in the model."""
        return int(self.model.count_params())

    @property
    def layers(self) -> list[Layer]:
        """The model's layers in order."""
        return [
            Layer(layer.name, type(layer).__name__, tuple(layer.output.shape), int(layer.count_params()))
            for layer in self.model.layers
        ]

    def predict(self, inputs: Array) -> Array:
        """Returns the model's outputs."""
        return np.asarray(self.model.predict(inputs, batch_size=_PREDICTION_BATCH, verbose=0))

    def save(self, folder: Path) -> None:
        """Writes model.keras and what else the recipe asks for."""
        for path in (folder / MODEL, *((folder / MODEL).with_suffix(suffix) for suffix in self.also_saved_as)):
            try:
                self.model.save(path)
            except RuntimeError as error:
                # What HDF5 says of a full disk where it notices when it closes an .h5 file.
                raise OSError(str(error)) from error


def fit(recipe: KerasRecipe, dataset: Dataset) -> Network:
    """Trains a network; the same recipe, data and seed give the same weights on the same machine.

    Raises:
        UsageError: the network cannot be regularised as the recipe says.
        DivergedError: the loss became NaN or infinite.
    """
    return fit_splits(recipe, *hold_out(dataset.train, recipe.held_out), classes=len(dataset.labels))


def fit_splits(recipe: KerasRecipe, train: Split, held_out: Split, *, classes: int) -> Network:
    """Trains a network of so many classes on `train` and watches it on `held_out`, which may be empty; see `fit`."""
    libraries = frameworks.load()
    libraries.keras.utils.set_random_seed(recipe.seed)
    # Sums whose order changes from run to run would give other weights for the same seed.
    libraries.tf.config.experimental.enable_op_determinism()
    if recipe.repeats > 1:
        train = train.take(np.tile(np.arange(len(train)), recipe.repeats))
    learner = _learner(recipe, classes)
    say(f"training {recipe.name} on {len(train):,} samples: {learner.model.count_params():,} parameters")
    learner.compile(len(train))
    history = learner.fit(train, held_out)
    model = learner.in_float32()
    temperature = _calibrate(model, held_out) if recipe.calibrated else None
    return Network(model, history, temperature, recipe.also_saved_as)


@dataclass(frozen=True)
class _Learner:
    """A model in training: what is saved in the end, and what fit is called on."""

    recipe: KerasRecipe
    classes: int
    model: Any
    # The model with the layers before it that change images while it learns.
    augmented: Any

    def compile(self, samples: int) -> None:
        keras = frameworks.load().keras
        steps = self.recipe.epochs * -(-samples // self.recipe.batch_size)
        loss: Any = self.recipe.loss
        if self.recipe.label_smoothing:
            loss = keras.losses.CategoricalCrossentropy(label_smoothing=self.recipe.label_smoothing)
        metrics = [] if self.recipe.loss == "mean_squared_error" else ["accuracy"]
        # Steps on a handful of rows take less time than a return to Python after each.
        together = _STEPS_TOGETHER if self.recipe.repeats > 1 else 1
        optimizer = _optimizer(self.recipe.optimizer, steps)
        self.augmented.compile(optimizer=optimizer, loss=loss, metrics=metrics, steps_per_execution=together)

    def fit(self, train: Split, held_out: Split) -> dict[str, list[float]]:
        steps = -(-len(train) // self.recipe.batch_size)
        progress = TrainingProgress(epochs=self.recipe.epochs, steps=steps)
        watched = (held_out.inputs, self._targets(held_out)) if len(held_out) else None
        progress.start()
        try:
            history = self.augmented.fit(
                train.inputs,
                self._targets(train),
                epochs=self.recipe.epochs,
                batch_size=self.recipe.batch_size,
                validation_data=watched,
                validation_batch_size=_PREDICTION_BATCH,
                verbose=0,
                callbacks=[_callback(progress), *stopping.callbacks(self.recipe)],
            )
        finally:
            progress.stop()
        return {name: [float(value) for value in values] for name, values in history.history.items()}

    def _targets(self, split: Split) -> Array:
        if self.recipe.loss != "categorical_crossentropy":
            return split.targets
        return np.asarray(frameworks.load().keras.utils.to_categorical(split.targets, self.classes))

    def in_float32(self) -> Any:
        if self.recipe.precision == "float32":
            return self.model
        model = regularize.build(self.recipe, self.classes)
        model.set_weights(self.model.get_weights())
        return model


def _learner(recipe: KerasRecipe, classes: int) -> _Learner:
    keras = frameworks.load().keras
    with _precision(recipe.precision):
        model = regularize.build(recipe, classes)
    if recipe.augmentation is None:
        return _Learner(recipe, classes, model, model)
    # Augmentation stays in front of the model, so that nothing of it is exported.
    shape = model.input_shape[1:]
    image = keras.Input(shape, dtype="float32")
    return _Learner(recipe, classes, model, keras.Sequential([image, *recipe.augmentation(), model]))


@contextlib.contextmanager
def _precision(policy: str) -> Iterator[None]:
    config = frameworks.load().keras.config
    before = config.dtype_policy()
    config.set_dtype_policy(policy)
    try:
        yield
    finally:
        config.set_dtype_policy(before)


def _optimizer(optimizer: Optimizer, steps: int) -> Any:
    keras = frameworks.load().keras
    rate: Any = optimizer.learning_rate
    if optimizer.schedule == "cosine":
        warmup_steps = round(steps * optimizer.warmup)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup_steps else rate,
            decay_steps=max(steps - warmup_steps, 1),
            warmup_target=rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    # Keras replaces the weights by their average at the end of fit.
    averaging = {} if optimizer.averaging is None else {"use_ema": True, "ema_momentum": optimizer.averaging}
    config = {"learning_rate": rate, **averaging, **optimizer.options}
    return keras.optimizers.get({"class_name": optimizer.name, "config": config})


def _callback(progress: TrainingProgress) -> Any:
    """Returns a Keras callback that tells `progress`; its base class is there only once Keras is loaded."""

    class Callback(frameworks.load().keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        epoch = 0
        step = 0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch
            progress.begin_epoch(epoch)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.step = batch
            progress.end_step(self.epoch, batch, logs)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            # A step's loss is that of the weights before it, so the last step's weights are not in any.
            if not all(np.isfinite(weights).all() for weights in self.model.get_weights()):
                raise DivergedError(epoch=epoch + 1, step=self.step + 1)
            progress.end_epoch(epoch, logs)

    return Callback()


def _calibrate(model: Any, held_out: Split) -> float:
    probabilities = np.asarray(model.predict(held_out.inputs, batch_size=_PREDICTION_BATCH, verbose=0))
    temperature = find_temperature(probabilities, held_out.targets)
    divide_logits(model, temperature)
    say(f"temperature {temperature:.3f}, found on {len(held_out):,} held-out samples")
    return temperature
