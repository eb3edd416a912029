"""The recipes: each module with a RECIPE is one."""

import difflib

from ..collected import collected
from ..errors import UsageError
from ..recipe import Recipe

_RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in collected(__name__, __path__, "RECIPE")}


def recipes() -> list[Recipe]:
    """Returns the recipes, from the shortest training to the longest."""
    return sorted(_RECIPES.values(), key=lambda recipe: (recipe.training_s, recipe.name))


def names() -> list[str]:
    """Returns the recipes' names."""
    return sorted(_RECIPES)


def find(name: str) -> Recipe:
    """Returns the recipe called `name`.

    Raises:
        UsageError: there is no such recipe; the message suggests similar names.
    """
    if name in _RECIPES:
        return _RECIPES[name]
    near = difflib.get_close_matches(name, names(), cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(names())}"
    raise UsageError(f'there is no recipe "{name}"; {hint}')
