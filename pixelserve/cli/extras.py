"""Loads the parts of PixelServe that need an extra, or names the extra to install."""

import importlib
from typing import Any


class MissingExtraError(Exception):
    """A command needs an extra that is not installed."""

    exit_code = 3


def load(module: str, *, extra: str) -> Any:
    """Imports `module`, which needs the libraries of `extra`.

    Raises:
        MissingExtraError: a library of that extra is missing.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # If one of our own modules is missing, that is a bug, not a missing extra.
        if error.name is None or error.name.startswith("pixelserve"):
            raise
        raise MissingExtraError(
            f"this command needs the library {error.name}; in PixelServe's clone run: pip install -e '.[{extra}]'"
        ) from error
