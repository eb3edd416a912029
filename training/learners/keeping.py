"""Saves a network after each epoch of training, logs it, and restores a saved one.

Not Keras's BackupAndRestore, CSVLogger and ModelCheckpoint: each overwrites a file of its own, so a kill between two
leaves weights, epoch and history that do not fit together, or an empty file that no attempt to resume survives.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import frameworks
from ..running.checkpoint import Checkpoint, damaged


def callbacks(checkpoint: Checkpoint | None, averaged: Any, save: Callable[[Path], None]) -> list[Any]:
    """Returns the Keras callbacks that save each epoch, and log it on request.

    Args:
        checkpoint: the target; None: no callbacks.
        averaged: the callback of `averaging` before these, or None.
        save: writes the model to a file, as if the run ended now.
    """
    if checkpoint is None:
        return []
    kept = _keeping(checkpoint, averaged, save)
    if checkpoint.logs is None:
        return [kept]
    frameworks.check_tensorboard()
    return [kept, frameworks.load().keras.callbacks.TensorBoard(checkpoint.logs, write_graph=False)]


def _keeping(checkpoint: Checkpoint, averaged: Any, save: Callable[[Path], None]) -> Any:
    base: Any = frameworks.load().keras.callbacks.Callback

    class Keeping(base):  # type: ignore[misc]  # Keras has no types
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            checkpoint.keep(logs, self._save_weights, save)

        def _save_weights(self, path: Path) -> None:
            with contextlib.nullcontext() if averaged is None else averaged.learning():
                self.model.save_weights(path)

    return Keeping()


def restore(model: Any, checkpoint: Checkpoint) -> None:
    """Restores the saved weights of a compiled model and the state of its optimizer.

    Raises:
        SourceError: the file is missing or damaged.
    """
    # Variables that the optimizer has not built would not be loaded.
    model.optimizer.build(model.trainable_variables)
    try:
        model.load_weights(checkpoint.weights)
    except Exception as error:  # Keras and h5py raise half a dozen errors
        raise damaged(checkpoint.weights, error) from error


def load(path: Path) -> Any:
    """Returns the model of a checkpoint's file.

    Raises:
        SourceError: the file is missing or damaged.
    """
    try:
        return frameworks.load().keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras, h5py and zipfile raise a dozen errors
        raise damaged(path, error) from error


def best_weights(checkpoint: Checkpoint) -> list[Any]:
    """Returns the weights of the best saved model, arrays in Keras's order.

    Raises:
        SourceError: the file is missing or damaged.
    """
    weights: list[Any] = load(checkpoint.best_model or checkpoint.folder).get_weights()
    return weights
