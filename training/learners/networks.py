"""The learner of networks that Keras trains: alone, with a teacher, or as an ensemble."""

from dataclasses import replace

from .. import frameworks
from ..datasets import Dataset, hold_out
from ..errors import UsageError
from ..progress import say
from ..recipe import CLASSIFIES, KerasRecipe
from ..report import Layer
from ..running.checkpoint import Checkpoint
from . import checking, distilled, ensemble, network, regularize, transfer
from .learner import Learner
from .network import Network

# Steps that a network needs to learn anything; the recipes' own data sets give several times as many.
_LEAST_STEPS = 500
# After this many times its memory, a moving average holds about a fiftieth of the initial weights.
_MEMORIES = 4
_ONE_HOT = "categorical_crossentropy"


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

    def is_calibrated(self, recipe: KerasRecipe) -> bool:
        """Returns whether the recipe says so."""
        return recipe.calibrated

    def of_a_fold(self, recipe: KerasRecipe) -> KerasRecipe:
        """Returns the recipe without calibration; only early stopping needs held-out samples."""
        stops_early = recipe.regularization.patience is not None
        return replace(recipe, calibrated=False, held_out=recipe.held_out if stops_early else 0.0)

    def for_all_samples(self, recipe: KerasRecipe, epochs: int | None) -> KerasRecipe:
        """Returns the recipe with the kept epoch's number of epochs, and without calibration: that is chosen."""
        if epochs is not None:
            recipe = replace(recipe, epochs=epochs, regularization=replace(recipe.regularization, patience=None))
        return replace(recipe, calibrated=False)

    def check(self, recipe: KerasRecipe) -> None:
        """Checks that the recipe's loss is one that its other values can be used with."""
        of_classes = {
            "--folds": recipe.folds,
            "--ensemble": recipe.ensemble,
            "--balance": recipe.balance,
            "a teacher": recipe.teacher,
            "calibrated": recipe.calibrated,
            "mirrored": recipe.mirrored,
        }
        for name, value in of_classes.items():
            if value and recipe.loss not in CLASSIFIES:
                raise UsageError(
                    f"{name} needs a recipe with a probability for each class, but {recipe.name} minimises "
                    f"{recipe.loss}; omit it"
                )
        for name, share in (("label_smoothing", recipe.label_smoothing), ("cut_mix", recipe.cut_mix)):
            if share and recipe.loss != _ONE_HOT:
                raise UsageError(
                    f"{name} needs one-hot labels, but {recipe.name} minimises {recipe.loss}; choose the loss "
                    f"{_ONE_HOT}, or omit it"
                )

    def check_data(self, recipe: KerasRecipe, dataset: Dataset) -> None:
        """Checks that Keras takes the optimizer's values, images are given, and early stopping has held-out samples."""
        network.optimizer_of(recipe, steps=1)
        for name, value in (("mirrored", recipe.mirrored), ("cut_mix", recipe.cut_mix)):
            if value and dataset.task != "image":
                raise UsageError(f"{name} is for images, but {dataset.name} has rows; omit it")
        if recipe.regularization.patience is not None and not len(hold_out(dataset.train, recipe.held_out)[1]):
            raise UsageError(
                f"--early-stopping needs held-out samples, but {recipe.held_out:.0%} of {len(dataset.train)} training "
                f"samples is none; omit the option, and choose --epochs instead"
            )

    def check_model(self, recipe: KerasRecipe, dataset: Dataset) -> None:
        """Builds a user's own network, and checks its input and its output for two samples."""
        checking.check(recipe, dataset)

    def layers(self, recipe: KerasRecipe, dataset: Dataset) -> list[Layer]:
        """Returns the layers of the network, or of an ensemble's first member."""
        # Its layers' names begin anew, as in a run.
        frameworks.load().keras.utils.clear_session()
        return Network(regularize.build(recipe, len(dataset.labels)), {}, temperature=None).layers

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
