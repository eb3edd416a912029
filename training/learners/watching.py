"""Shows a network's training, and stops it where it diverges."""

from typing import Any

import numpy as np

from .. import frameworks
from ..errors import DivergedError
from ..progress import TrainingProgress


def callback(progress: TrainingProgress) -> Any:
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
