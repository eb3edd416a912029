"""Options of `pixelserve train` that override a recipe."""

from dataclasses import dataclass, replace

from ..errors import UsageError
from ..recipe import KerasRecipe, Recipe


@dataclass(frozen=True)
class Overrides:
    """Overrides of a recipe; None keeps the recipe's value."""

    epochs: int | None = None
    """Passes over the training split."""
    batch_size: int | None = None
    """Samples a step."""
    learning_rate: float | None = None
    """The learning rate; with a schedule, its maximum."""
    seed: int | None = None
    """Fixes the initial weights and the order of the samples."""
    held_out: float | None = None
    """What to hold out of the training split: a share below 1, or a number of samples."""

    def apply(self, recipe: Recipe) -> Recipe:
        """Returns the recipe with the overrides applied.

        Raises:
            UsageError: a count below 1, a rate not above 0, a seed invalid for NumPy, or an option that the recipe's
                learner does not have.
        """
        self._check()
        if self.seed is not None:
            recipe = replace(recipe, seed=self.seed)
        options = ("epochs", "batch_size", "learning_rate", "held_out")
        given = {name: getattr(self, name) for name in options if getattr(self, name) is not None}
        if isinstance(recipe, KerasRecipe) and "learning_rate" in given:
            given["optimizer"] = replace(recipe.optimizer, learning_rate=given.pop("learning_rate"))
        unknown = [name.replace("_", " ") for name in given if not hasattr(recipe, name)]
        if unknown:
            raise UsageError(f"{recipe.name} has no {' and no '.join(unknown)} to choose; omit the option")
        return replace(recipe, **given)

    def _check(self) -> None:
        for option, value, least in (
            ("epochs", self.epochs, 1),
            ("batch-size", self.batch_size, 1),
            ("seed", self.seed, 0),
        ):
            if value is not None and not least <= value < 2**32:
                raise UsageError(f"--{option} {value}: expected {least} to {2**32 - 1}")
        if self.held_out is not None and not (0 < self.held_out < 1 or self._is_count(self.held_out)):
            raise UsageError(
                f"--hold-out {self.held_out:g}: expected a share between 0 and 1, or a whole number of samples"
            )
        if self.learning_rate is not None and not 0 < self.learning_rate < float("inf"):
            raise UsageError(f"--lr {self.learning_rate}: expected a number above 0")

    @staticmethod
    def _is_count(value: float) -> bool:
        return 1 <= value < 2**32 and float(value).is_integer()
