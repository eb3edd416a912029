"""What a learner tells the rest of training about its kind of recipe."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from ..datasets import Dataset
from ..recipe import Recipe
from ..report import Layer
from ..running.checkpoint import Checkpoint
from ..trained import Trained

Kind = TypeVar("Kind", bound=Recipe)


class Learner(ABC, Generic[Kind]):
    """Trains one kind of recipe; each is the `LEARNER` of its own module in this folder.

    The methods below say what a kind of recipe can do beyond being trained; by default it cannot.
    """

    kind: ClassVar[type[Recipe]]
    """The recipes that it trains."""
    learns_pictures: ClassVar[bool] = False
    """Whether it can train on a user's own pictures."""

    @abstractmethod
    def fit(self, recipe: Kind, dataset: Dataset, checkpoint: Checkpoint | None = None) -> Trained:
        """Trains a recipe on its data set's training split; see `learners.fit`."""

    def fold_accuracies(self, recipe: Kind, dataset: Dataset, count: int) -> tuple[float, ...] | None:
        """Cross-validates by means of its own; None: `fit` shall train a model per fold."""
        return None

    def is_logged(self, recipe: Kind) -> bool:
        """Returns whether the recipe's training can be logged for TensorBoard, and watched."""
        return False

    def history_note(self, recipe: Kind) -> str:
        """Returns how the network of the validation curve differs from the saved one; empty if it does not."""
        return ""

    def is_calibrated(self, recipe: Kind) -> bool:
        """Returns whether the recipe's model gets a temperature."""
        return False

    def of_a_fold(self, recipe: Kind) -> Kind:
        """Returns the recipe of the models that a cross-validation trains."""
        return recipe

    def for_all_samples(self, recipe: Kind, epochs: int | None) -> Kind:
        """Returns the recipe of a final run, which holds nothing out, without what needs held-out samples.

        Args:
            recipe: the recipe.
            epochs: the epoch that early stopping kept in the run that chose; None: it did not stop early.
        """
        return recipe

    def check(self, recipe: Kind) -> None:
        """Checks that the recipe's values fit together.

        Raises:
            UsageError: they do not.
        """

    def check_data(self, recipe: Kind, dataset: Dataset) -> None:
        """Checks that the recipe can learn from a data set.

        Raises:
            UsageError: it cannot.
        """

    def check_model(self, recipe: Kind, dataset: Dataset) -> None:
        """Checks that the model of a user's own recipe fits its data.

        Raises:
            UsageError: it does not.
        """

    def layers(self, recipe: Kind, dataset: Dataset) -> Sequence[Layer]:
        """Returns the layers of the recipe's network before training; empty if it is not a network."""
        return []

    def for_pictures(self, recipe: Kind, dataset: Dataset, *, epochs_chosen: bool) -> Kind:
        """Returns the recipe adapted to a user's own pictures.

        Args:
            recipe: the recipe.
            dataset: the pictures.
            epochs_chosen: whether the caller chose the number of epochs.
        """
        return recipe


@dataclass(frozen=True)
class Remedy:
    """A remedy against overfitting; each is the `REMEDY` of the module in this folder that applies it."""

    options: Mapping[str, str]
    """The recipe's plain values that switch it on, by dotted path, and by the option of `pixelserve train`."""
    adapt: Callable[[Any], Any] = field(default=lambda recipe: recipe)
    """Returns a recipe with whatever else has to change if one of these values was given."""
