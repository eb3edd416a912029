"""Shows a network's training, and stops it if it diverges.

Not Keras's TerminateOnNaN, which sees losses only: none covers the last update, whose NaN would be saved.
"""

from typing import Any

import numpy as np

from .. import frameworks
from ..errors import DivergedError
from ..progress import TrainingProgress


def callback(progress: TrainingProgress) -> Any:
    """Returns a Keras callback that reports to `progress`. Made here because its base class requires Keras."""

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
            # A step's loss is computed before its update.
            if not all(np.isfinite(weights).all() for weights in self.model.get_weights()):
                raise DivergedError(epoch=epoch + 1, step=self.step + 1)
            progress.end_epoch(epoch, logs)

    return Callback()
