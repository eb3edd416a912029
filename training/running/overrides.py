"""The options of `pixelserve train` that override a recipe's plain values."""

from collections.abc import Mapping, Sequence
from typing import Any

from .. import learners, plain_values
from ..errors import UsageError
from ..recipe import Recipe

# Short names of values, each by the paths that kinds of recipes have for it.
_SHORT: dict[str, tuple[str, ...]] = {
    "epochs": ("epochs",),
    "batch_size": ("batch_size",),
    "learning_rate": ("optimizer.learning_rate", "learning_rate"),
    "seed": ("seed",),
    "held_out": ("held_out",),
    "folds": ("folds",),
    **{name: (path,) for remedy in learners.REMEDIES for name, path in remedy.options.items()},
}
_OPTIONS = {"learning_rate": "--lr", "held_out": "--hold-out"}


def apply(recipe: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """Returns a recipe with other plain values.

    Args:
        recipe: the recipe.
        overrides: the values, as such or as text, by dotted path (`plain_values`) or by short name: epochs, batch_size,
            learning_rate, seed, held_out, folds and those of `learners.REMEDIES`.

    Raises:
        UsageError: the recipe has no such value, or the value is out of range, given twice, or does not fit the others.
    """
    if not overrides:
        return recipe
    known = plain_values.listed(recipe)
    values: dict[str, Any] = {}
    options: dict[str, str] = {}
    for name, value in overrides.items():
        path = next((path for path in _SHORT.get(name, ()) if path in known), name)
        if path in values:
            raise UsageError(f"{option(name)} and {options[path]} are the same value; give one of them")
        values[path], options[path] = value, option(name)
    recipe = plain_values.changed(recipe, values, options=options)
    for remedy in learners.REMEDIES:
        if not values.keys().isdisjoint(remedy.options.values()):
            recipe = remedy.adapt(recipe)
    learners.of(recipe).check(recipe)
    return recipe


def merged(options: Mapping[str, Any], texts: Sequence[str] | None) -> dict[str, Any]:
    """Returns overrides from options by short name (None: not given) and texts such as optimizer.momentum=0.9.

    Raises:
        UsageError: a text has another form, or a value is given twice.
    """
    found = {name: value for name, value in options.items() if value is not None}
    for text in texts or ():
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise UsageError(f"--set {text}: expected PATH=VALUE, such as optimizer.momentum=0.9")
        if path in found:
            raise UsageError(f"--set {path} is given twice; give it once")
        found[path] = value
    return found


def option(name: str) -> str:
    """Returns the option of `pixelserve train` for a value, by its short name or dotted path."""
    return _OPTIONS.get(name, f"--{name.replace('_', '-')}") if name in _SHORT else f"--set {name}"
