"""The recipes, one per file."""

import difflib

from ..errors import UsageError
from ..recipe import Recipe
from . import (
    blood_fat,
    cifar10,
    cifar10_cnn,
    cifar10_mlp,
    fashion_logistic,
    fashion_mnist,
    fashion_softmax,
    iris,
    logical_and,
    mnist,
    mnist_cnn,
    mnist_cnn_5x5,
    mnist_mlp,
    mnist_mlp_1000,
    numpy_and,
    numpy_xor,
    xor,
)

# In the order of `pixelserve zoo`: from the simplest to the flagships.
_MODULES = (
    logical_and,
    xor,
    numpy_and,
    numpy_xor,
    blood_fat,
    iris,
    fashion_logistic,
    fashion_softmax,
    mnist_mlp,
    mnist_mlp_1000,
    mnist_cnn_5x5,
    mnist_cnn,
    cifar10_mlp,
    cifar10_cnn,
    mnist,
    fashion_mnist,
    cifar10,
)
_RECIPES: dict[str, Recipe] = {module.RECIPE.name: module.RECIPE for module in _MODULES}


def recipes() -> list[Recipe]:
    """Returns the recipes, from the simplest to the flagships."""
    return list(_RECIPES.values())


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
