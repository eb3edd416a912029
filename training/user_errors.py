"""Describes errors of a user's own program."""

import contextlib
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .errors import TrainingError, UsageError


@contextlib.contextmanager
def calling(function: Callable[..., Any], what: str) -> Iterator[None]:
    """Runs a block that calls a function of the user's program; whatever that raises becomes a UsageError.

    Args:
        function: the user's function, for the line of its file where the error happened.
        what: what the user is to correct.

    Raises:
        UsageError: the function raised an error, or wants to end the program.
        TrainingError: one of ours, as it is.
    """
    try:
        yield
    except TrainingError:
        raise
    except (Exception, SystemExit) as error:
        file = getattr(getattr(function, "__code__", None), "co_filename", what)
        raise UsageError(f"{described(error, file)}; correct {what}") from error


def described(error: BaseException, path: str | Path) -> str:
    """Returns an error in one line, with the line of the user's file where it happened, if it did there."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    what = error.msg if isinstance(error, SyntaxError) else str(error).split("\n")[0]
    return f"{path}{f', line {line}' if line else ''}: {type(error).__name__}: {what}"
