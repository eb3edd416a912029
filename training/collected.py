"""Finds what the modules of a package offer, so a new module needs no entry in a list."""

import importlib
import pkgutil
from collections.abc import Iterable
from typing import Any


def collected(package: str, path: Iterable[str], attribute: str) -> list[Any]:
    """Returns an attribute of each module in a package that has it, by the modules' names.

    Args:
        package: the package's name, `__name__` in its `__init__.py`.
        path: its folders, `__path__`.
        attribute: the attribute's name, such as RECIPE.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(path))
    modules = [importlib.import_module(f"{package}.{name}") for name in names]
    return [getattr(module, attribute) for module in modules if hasattr(module, attribute)]
