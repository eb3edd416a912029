"""Options of `pixelserve train` against overfitting, for any classifying network."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ..errors import UsageError
from ..progress import say
from ..recipe import Ensemble, KerasRecipe, Recipe, Regularization

_HELD_OUT = 0.1
_MOST_EPOCHS = 2**32 - 1
_MOST_FOLDS = 100
_MOST_MEMBERS = 100
_KINDS = ("bagging", "boosting", "stacking")


@dataclass(frozen=True)
class Remedies:
    """The options; None keeps the recipe's value."""

    l1: float | None = None
    """Factor of the kernels' summed absolute values in the loss."""
    l2: float | None = None
    """Factor of the kernels' summed squares in the loss."""
    dropout: float | None = None
    """Dropout rate of the last Dense layer's inputs, a fraction of 1."""
    early_stopping: int | None = None
    """Number of epochs without a lower held-out loss after which training stops."""
    folds: int | None = None
    """Number of folds for cross-validation."""
    ensemble: Literal["bagging", "boosting", "stacking"] | None = None
    """How several models are joined into one."""
    members: int | None = None
    """Number of these models."""

    def apply(self, recipe: Recipe) -> Recipe:
        """Returns the recipe with the options applied.

        Raises:
            UsageError: a value out of range, members without an ensemble, or a recipe that is not a classifying
                network.
        """
        self._check()
        asked = [_option(name) for name, value in asdict(self).items() if value is not None]
        if not asked:
            return recipe
        if not isinstance(recipe, KerasRecipe):
            raise UsageError(
                f"{asked[0]} is for networks trained by Keras, which {recipe.name} is not; omit the option"
            )
        return self._apply(recipe)

    def _apply(self, recipe: KerasRecipe) -> KerasRecipe:
        self._check_classifies(recipe)
        named = {"l1": self.l1, "l2": self.l2, "dropout": self.dropout, "patience": self.early_stopping}
        given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
        recipe = replace(recipe, folds=self.folds, regularization=replace(recipe.regularization, **given))
        if self.early_stopping is not None and not recipe.held_out:
            say(f"early stopping holds out {_HELD_OUT:.0%} of the training samples")
            recipe = replace(recipe, held_out=_HELD_OUT)
        if self.ensemble is None:
            return recipe
        if recipe.calibrated:
            say(f"an ensemble is not calibrated, as {recipe.name} alone is")
        if recipe.teacher:
            say(f"an ensemble's members learn without the teacher that {recipe.name} alone has")
        members = Ensemble.members if self.members is None else self.members
        return replace(recipe, calibrated=False, teacher=None, ensemble=Ensemble(self.ensemble, members))

    def _check(self) -> None:
        for name, rate, end in (("l1", self.l1, math.inf), ("l2", self.l2, math.inf), ("dropout", self.dropout, 1.0)):
            if rate is not None and not 0 <= rate < end:
                below = "" if end == math.inf else f", below {end:g}"
                raise UsageError(f"{_option(name)} {rate}: expected a number of 0 or more{below}")
        for name, count, least, most in (
            ("early_stopping", self.early_stopping, 1, _MOST_EPOCHS),
            ("folds", self.folds, 2, _MOST_FOLDS),
            ("members", self.members, 2, _MOST_MEMBERS),
        ):
            if count is not None and not least <= count <= most:
                raise UsageError(f"{_option(name)} {count}: expected {least} to {most}")
        if self.ensemble is not None and self.ensemble not in _KINDS:
            raise UsageError(f'--ensemble "{self.ensemble}": expected {", ".join(_KINDS[:-1])} or {_KINDS[-1]}')
        if self.members is not None and self.ensemble is None:
            raise UsageError(f"--members {self.members} needs an ensemble; give --ensemble {'|'.join(_KINDS)} as well")

    def _check_classifies(self, recipe: KerasRecipe) -> None:
        if recipe.loss in ("sparse_categorical_crossentropy", "categorical_crossentropy"):
            return
        for name in ("folds", "ensemble"):
            if getattr(self, name) is not None:
                raise UsageError(
                    f"{_option(name)} needs a recipe with a probability for each class, but {recipe.name} minimises "
                    f"{recipe.loss}; omit the option"
                )


NONE = Remedies()


def settings_of(recipe: KerasRecipe) -> dict[str, Any]:
    """Returns a recipe's remedies as plain values for a run's settings."""
    regularization: Regularization = recipe.regularization
    return {
        "l1": regularization.l1,
        "l2": regularization.l2,
        "dropout": regularization.dropout,
        "early_stopping": regularization.patience,
        "folds": recipe.folds,
        "ensemble": asdict(recipe.ensemble) if recipe.ensemble else None,
    }


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
