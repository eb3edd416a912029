"""What the caller wants done against overfitting: options of `pixelserve train` for any network that classifies."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from .errors import UsageError
from .progress import say
from .recipe import KerasRecipe, Recipe, Regularization

_HELD_OUT = 0.1
_MOST_EPOCHS = 2**32 - 1


@dataclass(frozen=True)
class Remedies:
    """What is asked for; None leaves it as the recipe has it."""

    l1: float | None = None
    """Factor of the sum of all kernels' absolute values in the loss."""
    l2: float | None = None
    """Factor of the sum of all kernels' squares in the loss."""
    dropout: float | None = None
    """The share of the last Dense layer's inputs that each step leaves out, a fraction of 1."""
    early_stopping: int | None = None
    """Epochs without a lower held-out loss after which training stops."""

    def apply(self, recipe: Recipe) -> Recipe:
        """Returns the recipe with what is asked for.

        Raises:
            UsageError: a value out of range, or a recipe that is no network.
        """
        self._check()
        asked = [_option(name) for name, value in asdict(self).items() if value is not None]
        if not asked:
            return recipe
        if not isinstance(recipe, KerasRecipe):
            raise UsageError(f"{asked[0]} is for networks that Keras trains, and {recipe.name} is none; leave it out")
        return self._apply(recipe)

    def _apply(self, recipe: KerasRecipe) -> KerasRecipe:
        named = {"l1": self.l1, "l2": self.l2, "dropout": self.dropout, "patience": self.early_stopping}
        given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
        recipe = replace(recipe, regularization=replace(recipe.regularization, **given))
        if self.early_stopping is not None and not recipe.held_out:
            say(f"early stopping holds out {_HELD_OUT:.0%} of the training samples")
            recipe = replace(recipe, held_out=_HELD_OUT)
        return recipe

    def _check(self) -> None:
        for name, rate, end in (("l1", self.l1, math.inf), ("l2", self.l2, math.inf), ("dropout", self.dropout, 1.0)):
            if rate is not None and not 0 <= rate < end:
                below = "" if end == math.inf else f", below {end:g}"
                raise UsageError(f"{_option(name)} {rate}: expected a number of 0 or more{below}")
        patience = self.early_stopping
        if patience is not None and not 1 <= patience <= _MOST_EPOCHS:
            raise UsageError(f"--early-stopping {patience}: expected 1 to {_MOST_EPOCHS}")


NONE = Remedies()


def settings_of(recipe: KerasRecipe) -> dict[str, Any]:
    """Returns what a run's settings say of the remedies in a recipe, as plain values."""
    regularization: Regularization = recipe.regularization
    return {
        "l1": regularization.l1,
        "l2": regularization.l2,
        "dropout": regularization.dropout,
        "early_stopping": regularization.patience,
    }


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
