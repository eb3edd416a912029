"""Shows progress on stderr; stdout is reserved for results."""

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track

from .errors import DivergedError

Item = TypeVar("Item")


def say(line: str) -> None:
    """Prints one line on stderr at once."""
    print(line, file=sys.stderr, flush=True)


def tracked(items: Sequence[Item], description: str) -> Iterator[Item]:
    """Yields items, with a progress bar on stderr if that is a terminal."""
    console = Console(stderr=True, highlight=False)
    yield from track(items, description, console=console, transient=True, disable=not console.is_terminal)


class TrainingProgress:
    """A bar per epoch, with the current loss and accuracy, and a line per completed epoch.

    Only the lines if stderr is not a terminal.
    """

    def __init__(self, *, epochs: int, steps: int) -> None:
        """`steps` is the number of steps per epoch."""
        self._epochs = epochs
        self._steps = steps
        self._epoch_started_s = 0.0
        console = Console(stderr=True, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=steps, figures="")

    def start(self) -> None:
        """Shows the bar."""
        self._bar.start()

    def stop(self) -> None:
        """Removes the bar."""
        self._bar.stop()

    def begin_epoch(self, epoch: int) -> None:
        """Starts an epoch, counted from 0."""
        self._epoch_started_s = time.monotonic()
        self._bar.reset(self._task, description=f"epoch {epoch + 1}/{self._epochs}", figures="")

    def end_step(self, epoch: int, step: int, figures: Mapping[str, float]) -> None:
        """Shows a completed step; epoch and step count from 0.

        Raises:
            DivergedError: the loss is NaN or infinite.
        """
        if not math.isfinite(figures["loss"]):
            raise DivergedError(epoch=epoch + 1, step=step + 1)
        self._bar.update(self._task, completed=step + 1, figures=_format(figures))

    def end_epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Prints an epoch's line."""
        took_s = time.monotonic() - self._epoch_started_s
        self._bar.console.print(f"epoch {epoch + 1}/{self._epochs}  {_format(figures)}  {took_s:.1f} s")


def _format(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
