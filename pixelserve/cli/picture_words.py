"""Flags for each word of the line that declares a model's pictures."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from pixelserve.imaging.words import WORDS, Word

from .options import extended

PANEL = "Picture"
"""The heading of the flags in the help."""
# `pixelserve export` also reshapes rows of numbers.
_MORE = {"size": " With channels, such as 28x28x1, for a Keras model whose input is rows of pixels."}


def with_words(command: Callable[..., None]) -> Callable[..., None]:
    """Adds a flag for each word to a command with a keyword `words`, which receives the given ones by key."""

    def given(**flags: str | None) -> dict[str, str]:
        return {key: value for key, value in flags.items() if value is not None}

    return extended(command, "words", [_flag(key, word) for key, word in WORDS.items()], given)


def _flag(key: str, word: Word) -> inspect.Parameter:
    kind: Any = Literal[word.values] if word.values else str
    option = typer.Option(help=word.help + _MORE.get(key, ""), metavar=word.form or None, rich_help_panel=PANEL)
    return inspect.Parameter(
        key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )
