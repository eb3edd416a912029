"""The checkpoint of an unfinished run, for `pixelserve train --resume`: RUN.partial beside RUN.

state.json               the run's settings and progress; it names the files below
epoch-3.weights.h5       weights and the optimizer's state after the last completed epoch
best-epoch-2.keras       the best model so far, as the run would save it
member-1.keras           for an ensemble instead: a trained model, in float32
teacher.keras            the trained teacher, if there is one
tensorboard/             logs, if requested

state.json is replaced last and atomically, so after any interruption it names complete files.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import SourceError, WriteError
from ..staging import reason
from .runs import Settings

STATE = "state.json"
LOGS = "tensorboard"

# The files that may be tidied.
_SUFFIXES = (".h5", ".keras", ".new")

_HELD_OUT_LOSS = "val_loss"
# The first of these that exists ranks the last epoch.
_LAST_FIGURES = ("accuracy", "loss")


class Best(BaseModel):
    """The best epoch so far: the one with the lowest held-out loss, or the last one if nothing is held out."""

    epoch: int
    """Counted from 1."""
    name: str
    """The figure's name in the history, such as val_loss."""
    figure: float
    """What it was."""

    def __str__(self) -> str:
        """Returns it in words."""
        return f"{self.name} {self.figure:.4f} in epoch {self.epoch}"


class State(BaseModel):
    """The progress of a run."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants")

    settings: Settings
    """The run's settings."""
    request: dict[str, Any]
    """The caller's options, which a resumed run need not repeat."""
    epochs: int = 0
    """Number of completed epochs."""
    history: dict[str, list[float]] = {}
    """Figures by name, one entry per epoch."""
    best: Best | None = None
    """The best epoch, or None."""
    training_s: float = 0.0
    """Duration of training, in seconds."""
    folds: tuple[float, ...] = ()
    """Accuracies of an earlier cross-validation; empty without one."""
    members: dict[str, dict[str, list[float]]] = {}
    """Histories of an ensemble's trained models, or of a teacher, by name."""

    @property
    def planned(self) -> int | None:
        """Number of epochs that the run is to have; None: it has none."""
        return self.settings.learner.get("epochs")

    @property
    def is_kept(self) -> bool:
        """Whether there is anything to resume from."""
        return bool(self.epochs or self.members)


class Checkpoint:
    """A run's checkpoint on disk. The folder is created with the first kept epoch or log."""

    def __init__(self, run: Path, state: State, *, logged: bool = False) -> None:
        """`run` is the finished run's folder; `logged` tells whether TensorBoard logs are written."""
        self.folder = folder_of(run)
        self.state = state
        self.followers: Sequence[Callable[[State], None]] = ()
        """Called with the state after each kept epoch."""
        self.logs = self.folder / LOGS if logged else None
        self._trained_before_s = state.training_s
        self._started_s = time.monotonic()

    @property
    def weights(self) -> Path:
        """The file of weights and optimizer state after the last completed epoch."""
        return self.folder / f"epoch-{self.state.epochs}.weights.h5"

    @property
    def best_model(self) -> Path | None:
        """The best model so far, or None."""
        return self.folder / f"best-epoch-{self.state.best.epoch}.keras" if self.state.best else None

    def member(self, name: str) -> Path:
        """Returns the file of an ensemble's trained model, or of a teacher."""
        return self.folder / f"{name}.keras"

    @property
    def training_s(self) -> float:
        """Duration of training without interruptions, in seconds."""
        return self._trained_before_s + time.monotonic() - self._started_s

    def start(self) -> None:
        """Starts the clock of the training time, which counts up to the last kept epoch."""
        self._trained_before_s = self.state.training_s
        self._started_s = time.monotonic()

    def check_writable(self) -> None:
        """Checks that epochs can be kept, before there is anything to lose.

        Raises:
            WriteError: the folder cannot be made.
        """
        with self._writing():
            pass
        self.tidy()

    def note(self, *, folds: tuple[float, ...]) -> None:
        """Records a cross-validation's result, which is saved with the next epoch."""
        self.state = self.state.model_copy(update={"folds": folds})

    def keep(
        self, figures: Mapping[str, float], write_weights: Callable[[Path], None], write_best: Callable[[Path], None]
    ) -> None:
        """Saves the completed epoch, replacing the previous one.

        If that fails or is interrupted, the previous one is still kept.

        Args:
            figures: the epoch's figures, by name.
            write_weights: writes the weights and the optimizer's state to a file.
            write_best: writes the model to a file; called if this epoch is the best so far.

        Raises:
            WriteError: it cannot be written.
        """
        after = self._advanced(figures)
        kept, self.state = self.state, after
        try:
            with self._writing():
                write_weights(self.weights)
                if self.best_model is not None and after.best is not None and after.best.epoch == after.epochs:
                    write_best(self.best_model)
                _replace(self.folder / STATE, after.model_dump_json(indent=2))
            kept = after
        finally:
            self.state = kept
            self.tidy()
        for follow in self.followers:
            follow(self.state)

    def keep_member(self, name: str, history: Mapping[str, list[float]], write: Callable[[Path], None]) -> None:
        """Saves an ensemble's trained model, or a teacher, beside the earlier ones.

        Args:
            name: the model's name, such as member-1 or teacher.
            history: its training history.
            write: writes it to a file.

        Raises:
            WriteError: it cannot be written.
        """
        members = {**self.state.members, name: dict(history)}
        after = self.state.model_copy(update={"members": members, "training_s": self.training_s})
        with self._writing():
            write(self.member(name))
            _replace(self.folder / STATE, after.model_dump_json(indent=2))
        self.state = after

    def tidy(self) -> None:
        """Removes files that the state does not name, and the folder if nothing is kept."""
        if not self.state.is_kept:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        named = {self.weights, self.best_model, *map(self.member, self.state.members)}
        for path in [path for path in self.folder.iterdir() if path.suffix in _SUFFIXES and path not in named]:
            path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Removes the checkpoint of a finished run."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _advanced(self, figures: Mapping[str, float]) -> State:
        epochs = self.state.epochs + 1
        history = {name: [*self.state.history.get(name, []), float(figure)] for name, figure in figures.items()}
        best = _better(self.state.best, epochs, figures)
        update = {"epochs": epochs, "history": history, "best": best, "training_s": self.training_s}
        return self.state.model_copy(update=update)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            remedy = "then resume from the last saved state" if self.state.is_kept else "or give another place"
            raise WriteError(f"{self.folder} cannot be written: {reason(error)}; make room, {remedy}") from error


def folder_of(run: Path) -> Path:
    """Returns the folder of an unfinished run's checkpoint."""
    return run.with_name(f"{run.name}.partial")


def damaged(file: Path, error: Exception) -> SourceError:
    """Returns the error for an unreadable checkpoint file."""
    why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error).partition("\n")[0]
    return SourceError(f"{file} is damaged ({why}); remove {file.parent} and train again without --resume")


def _better(best: Best | None, epoch: int, figures: Mapping[str, float]) -> Best:
    if _HELD_OUT_LOSS not in figures:
        name = next(name for name in _LAST_FIGURES if name in figures)
        return Best(epoch=epoch, name=name, figure=figures[name])
    loss = figures[_HELD_OUT_LOSS]
    return best if best is not None and best.figure <= loss else Best(epoch=epoch, name=_HELD_OUT_LOSS, figure=loss)


def _replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text + "\n", encoding="utf-8")
    fresh.replace(path)
