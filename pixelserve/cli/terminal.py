"""Terminal output of the commands: safe text, tables and consoles.

rich is imported only for drawing: the import takes as long as the rest of the command line.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Without a terminal, tables are as wide as needed, because a wrapped path is not usable.
_UNWATCHED_WIDTH = 400


def printable(text: str) -> str:
    """Escapes control characters, because names may come from untrusted files and servers."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def console(*, stderr: bool = False) -> "Console":
    """Returns a console for the current stdout or stderr."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, markup=False)
    if not made.is_terminal:
        made.width = _UNWATCHED_WIDTH
    return made


def table(*columns: str, right: Sequence[str] = ()) -> "Table":
    """Returns an empty table in the common style; the columns in `right` are right-aligned."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def add_row(to: "Table", *cells: str) -> None:
    """Adds a row of texts, made printable."""
    from rich.text import Text

    to.add_row(*(Text(printable(cell)) for cell in cells))


def print_table(shown: "Table") -> None:
    """Prints a table on stdout, without padding in its last column."""
    screen = console()
    with screen.capture() as captured:
        screen.print(shown)
    # Colours that rich decided on (a terminal, or FORCE_COLOR) are kept; click would remove them from a pipe.
    coloured = screen.color_system is not None
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()), color=coloured or None)
