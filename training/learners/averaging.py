"""Evaluates, keeps and saves the moving average of a network's weights while it learns.

Keras's SwapEMAWeights ends with the weights of the last step if training stops early, and leaves batch normalisation
with the statistics of other weights than the average.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import frameworks

SAMPLES = 4096
"""Number of training samples for new batch statistics; passing them costs 3 % of a flagship's epoch."""


def callback(model: Any, batches: Any, augment: Callable[[Any], Any]) -> Any:
    """Returns a Keras callback that puts the average into the model at the end of each epoch.

    From the epoch's evaluation on, the model has the averaged weights, and batch statistics that belong to them; from
    the next epoch on, it has the weights that learn. It ends with the average. The callbacks after it see the average.

    Args:
        model: the network, without augmentation.
        batches: a tf.data.Dataset of training samples and targets, in batches of one size.
        augment: maps a batch of samples to what the network learns from.
    """
    return _callback_class()(model, batches, augment)


def retake_statistics(model: Any, batches: Any, learn: Callable[[Any], Any]) -> None:
    """Sets the moving mean and variance of each batch normalisation to their means over batches.

    Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization", section 3.2: averaged
    weights have never seen a batch.

    Args:
        model: the network; other layers keep their weights.
        batches: as in `callback`.
        learn: passes a batch through the network as in training. It may be compiled, if only used here.
    """
    layers = list(_normalizations(model))
    if not layers:
        return
    statistics = [variable for layer in layers for variable in (layer.moving_mean, layer.moving_variance)]
    taken = []
    with _forgetful(layers):
        for samples, _ in batches:
            learn(samples)
            taken.append([np.asarray(variable) for variable in statistics])
    for variable, values in zip(statistics, zip(*taken, strict=True), strict=True):
        variable.assign(np.mean(values, axis=0))


@contextlib.contextmanager
def _forgetful(layers: list[Any]) -> Iterator[None]:
    """Makes each layer's statistics those of the last batch alone."""
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum


def _normalizations(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _normalizations(layer)
        elif isinstance(layer, frameworks.load().keras.layers.BatchNormalization):
            yield layer


def _callback_class() -> Any:
    base: Any = frameworks.load().keras.callbacks.Callback

    class Averaging(base):  # type: ignore[misc]  # Keras has no types
        def __init__(self, network: Any, batches: Any, augment: Callable[[Any], Any]) -> None:
            super().__init__()
            self._network, self._batches = network, batches
            # Compiled at its first use, while the layers forget: with their own momentum it would be another function.
            self._learn = frameworks.load().tf.function(lambda samples: network(augment(samples), training=True))
            # The weights that learn, while the model has their average.
            self._learning: list[Any] | None = None

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self._leave()

        def on_test_begin(self, logs: Any = None) -> None:
            self._enter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            # Without held-out samples there was no evaluation.
            self._enter()

        def on_train_end(self, logs: Any = None) -> None:
            # A resumed run may have no epoch left.
            self._enter()

        @contextlib.contextmanager
        def learning(self) -> Iterator[None]:
            """Puts the weights that learn back for a block."""
            if self._learning is None:
                yield
                return
            average = self._network.get_weights()
            self._network.set_weights(self._learning)
            try:
                yield
            finally:
                self._network.set_weights(average)

        def _enter(self) -> None:
            if self._learning is None:
                self._learning = self._network.get_weights()
                self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
                retake_statistics(self._network, self._batches, self._learn)

        def _leave(self) -> None:
            if self._learning is not None:
                self._network.set_weights(self._learning)
                self._learning = None

    return Averaging
