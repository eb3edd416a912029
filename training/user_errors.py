"""Describes errors of a user's own program."""

import traceback
from pathlib import Path


def described(error: BaseException, path: str | Path) -> str:
    """Returns an error in one line, with the line of the user's file where it happened, if it did there."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    what = error.msg if isinstance(error, SyntaxError) else str(error).split("\n")[0]
    return f"{path}{f', line {line}' if line else ''}: {type(error).__name__}: {what}"
