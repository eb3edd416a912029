"""The learner of networks that Keras trains: alone, with a teacher, or as an ensemble."""

from dataclasses import replace

from ..datasets import Dataset, hold_out
from ..errors import UsageError
from ..progress import say
from ..recipe import KerasRecipe
from ..running.checkpoint import Checkpoint
from . import distilled, ensemble, network, transfer
from .learner import Learner
from .network import Network

# Steps that a network needs to learn anything; the recipes' own data sets give several times as many.
_LEAST_STEPS = 500
# After this many times its memory, a moving average holds about a fiftieth of the initial weights.
_MEMORIES = 4
_OF_CLASSES = ("sparse_categorical_crossentropy", "categorical_crossentropy")


class Networks(Learner[KerasRecipe]):
    """Trains a `KerasRecipe`."""

    kind = KerasRecipe
    learns_pictures = True

    def fit(self, recipe: KerasRecipe, dataset: Dataset, checkpoint: Checkpoint | None = None) -> Network:
        """Trains a network, its teacher before it, or its ensemble."""
        if recipe.transfer:
            return transfer.fit(recipe, dataset, checkpoint)
        if recipe.ensemble:
            return ensemble.fit(recipe, dataset, checkpoint)
        if recipe.teacher:
            return distilled.fit(recipe, dataset, checkpoint)
        return network.fit(recipe, dataset, checkpoint)

    def held_out(self, recipe: KerasRecipe) -> float:
        """Returns the recipe's held-out share."""
        return recipe.held_out

    def folds(self, recipe: KerasRecipe) -> int | None:
        """Returns the recipe's number of folds."""
        return recipe.folds

    def is_logged(self, recipe: KerasRecipe) -> bool:
        """Returns whether it is a single network."""
        return recipe.ensemble is None

    def history_note(self, recipe: KerasRecipe) -> str:
        """Returns what the saved network does otherwise than the one that learns."""
        differences = [
            *(["computes in bfloat16"] if recipe.precision != "float32" else []),
            *(["sees each image one way only"] if recipe.mirrored else []),
        ]
        phases = (
            f"In the first {recipe.epochs} epochs only the last layer learns, then all weights."
            if recipe.transfer and recipe.transfer.epochs
            else ""
        )
        if phases:
            return phases
        return (
            f"The network of these curves {' and '.join(differences)}; the saved one does not." if differences else ""
        )

    def check(self, recipe: KerasRecipe) -> None:
        """Checks that a recipe with folds, an ensemble or balanced classes has a probability for each class."""
        options = (("--folds", recipe.folds), ("--ensemble", recipe.ensemble), ("--balance", recipe.balance))
        for option, value in options:
            if value is not None and recipe.loss not in _OF_CLASSES:
                raise UsageError(
                    f"{option} needs a recipe with a probability for each class, but {recipe.name} minimises "
                    f"{recipe.loss}; omit the option"
                )

    def check_data(self, recipe: KerasRecipe, dataset: Dataset) -> None:
        """Checks that early stopping has held-out samples."""
        if recipe.regularization.patience is not None and not len(hold_out(dataset.train, recipe.held_out)[1]):
            raise UsageError(
                f"--early-stopping needs held-out samples, but {recipe.held_out:.0%} of {len(dataset.train)} training "
                f"samples is none; omit the option, and choose --epochs instead"
            )

    def for_pictures(self, recipe: KerasRecipe, dataset: Dataset, *, epochs_chosen: bool) -> KerasRecipe:
        """Adapts a recipe to few pictures, which give few steps per epoch.

        It gets more epochs, unless the caller chose their number; a moving average of the weights remembers at most a
        quarter of the run, so it forgets the initial ones.
        """
        samples = len(hold_out(dataset.train, recipe.held_out)[0])
        steps = -(-samples // recipe.batch_size)
        if not epochs_chosen and recipe.epochs * steps < _LEAST_STEPS:
            recipe = replace(recipe, epochs=-(-_LEAST_STEPS // steps))
            say(
                f"{recipe.epochs} epochs, because {samples:,} pictures make few steps per epoch; "
                f"--epochs overrides this"
            )
        averaging = recipe.optimizer.averaging
        if averaging is None:
            return recipe
        forgetful = max(1 - _MEMORIES / (recipe.epochs * steps), 0.0)
        return replace(recipe, optimizer=replace(recipe.optimizer, averaging=min(averaging, forgetful)))


LEARNER = Networks()
