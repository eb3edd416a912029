"""Stops training when the held-out loss no longer falls."""

from dataclasses import replace
from typing import Any

from .. import frameworks
from ..progress import say
from ..recipe import KerasRecipe
from ..running.checkpoint import Checkpoint
from . import keeping
from .learner import Remedy

_HELD_OUT = 0.1


def _holding_out(recipe: KerasRecipe) -> KerasRecipe:
    if recipe.held_out:
        return recipe
    say(f"early stopping holds out {_HELD_OUT:.0%} of the training samples")
    return replace(recipe, held_out=_HELD_OUT)


REMEDY = Remedy({"early_stopping": "regularization.patience"}, _holding_out)


def callbacks(recipe: KerasRecipe, checkpoint: Checkpoint | None = None) -> list[Any]:
    """Returns the Keras callbacks for early stopping; none if the recipe has no patience.

    At the end the model has the weights of the epoch with the lowest held-out loss. A resumed run counts the epochs
    before, which Keras's callback alone forgets.
    """
    patience = recipe.regularization.patience
    return [] if patience is None else [_early_stopping(patience, checkpoint)]


def is_over(recipe: KerasRecipe, checkpoint: Checkpoint) -> bool:
    """Returns whether a resumed run had already stopped early."""
    patience, best = recipe.regularization.patience, checkpoint.state.best
    return patience is not None and best is not None and checkpoint.state.epochs - best.epoch >= patience


def _early_stopping(patience: int, checkpoint: Checkpoint | None) -> Any:
    base: Any = frameworks.load().keras.callbacks.EarlyStopping

    class EarlyStopping(base):  # type: ignore[misc]  # Keras has no types
        def on_train_begin(self, logs: Any = None) -> None:
            super().on_train_begin(logs)
            if checkpoint is not None and checkpoint.state.best is not None:
                best, epochs = checkpoint.state.best, checkpoint.state.epochs
                self.best, self.best_epoch, self.wait = best.figure, best.epoch - 1, epochs - best.epoch
                self.best_weights = keeping.best_weights(checkpoint)
                self.stopped_epoch = epochs - 1 if self.wait >= patience else 0

        def on_train_end(self, logs: Any = None) -> None:
            super().on_train_end(logs)
            if self.best_weights is not None:
                stopped = f"stopped after epoch {self.stopped_epoch + 1}" if self.stopped_epoch else "never stopped"
                say(f"early stopping: {stopped}; kept epoch {self.best_epoch + 1}, held-out loss {self.best:.4f}")

    return EarlyStopping(monitor="val_loss", mode="min", patience=patience, restore_best_weights=True)
