"""Reads a user's own recipe: a Python file with a RECIPE, as those of the zoo."""

import hashlib
import re
import sys
import types
from dataclasses import dataclass
from pathlib import Path

from . import frameworks, learners, plain_values, zoo
from .errors import UsageError
from .recipe import Recipe
from .user_errors import described

_ATTRIBUTE = "RECIPE"
# A recipe's name is that of its exported model, which is a folder.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class RecipeFile:
    """A file with a recipe."""

    recipe: Recipe
    """Its RECIPE."""
    content: bytes
    """The file's content."""

    @property
    def sha256(self) -> str:
        """The content's hash, in hex."""
        return hashlib.sha256(self.content).hexdigest()


def find(named: str | Recipe) -> tuple[Recipe, RecipeFile | None]:
    """Returns a recipe, and the file that it is from, if any.

    Args:
        named: a recipe's name in the zoo, a file's name that ends in .py, or a recipe.

    Raises:
        UsageError: there is no such recipe or file, or the file does not define a recipe.
    """
    if isinstance(named, Recipe):
        return _checked(named, "RECIPE"), None
    if not named.endswith(".py"):
        return zoo.find(named), None
    file = read(Path(named))
    return file.recipe, file


def read(path: Path) -> RecipeFile:
    """Runs a file, which may import modules beside it, and returns its recipe.

    Raises:
        UsageError: the file cannot be read or run, or does not define a valid recipe.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; give a Python file with a {_ATTRIBUTE}") from error
    if b"keras" in content or b"tensorflow" in content:
        # Imported here first, Keras has its backend and TensorFlow is quiet.
        frameworks.load()
    module = types.ModuleType(f"pixelserve_recipe_{path.stem}")
    module.__file__ = str(path)
    # Dataclasses look up their module by name.
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        exec(compile(content, str(path), "exec"), vars(module))  # noqa: S102  # the user's own program
    except (Exception, SystemExit) as error:  # whatever the user's program raises
        raise UsageError(f"{described(error, path)}; correct the recipe") from error
    finally:
        sys.path.pop(0)
    return RecipeFile(_recipe_in(module, path), content)


def _recipe_in(module: types.ModuleType, path: Path) -> Recipe:
    if not hasattr(module, _ATTRIBUTE):
        raise UsageError(
            f"{path} has no {_ATTRIBUTE}; add one, such as {_ATTRIBUTE} = KerasRecipe(name=…, dataset=…, build=…, "
            f"epochs=…, batch_size=…)"
        )
    recipe = getattr(module, _ATTRIBUTE)
    kinds = " or ".join(kind.__name__ for kind in learners.kinds())
    if not isinstance(recipe, Recipe):
        raise UsageError(f"{path}: {_ATTRIBUTE} is a {type(recipe).__name__}; expected a {kinds}")
    return _checked(recipe, path)


def _checked(recipe: Recipe, source: str | Path) -> Recipe:
    check_name(recipe.name, source)
    plain_values.check(recipe)
    learners.of(recipe).check(recipe)
    return recipe


def check_name(name: str, source: str | Path) -> None:
    """Checks that a recipe's name can be a model's, and is not that of another recipe.

    Raises:
        UsageError: it cannot.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f'{source}: the recipe\'s name is "{name}"; expected letters, digits, ".", "_" and "-", a letter or digit '
            f"first, because the model's folder gets this name"
        )
    if name in zoo.names():
        raise UsageError(f"{source}: the recipe's name {name} is that of a recipe in the zoo; choose another")
