"""The checkpoint of an unfinished run, which `pixelserve train --resume` goes on from: RUN.partial beside RUN.

state.json               what the run is made of and how far it is; it names the files below
epoch-3.weights.h5       weights, and the optimizer's state, after the last epoch that was finished
best-epoch-2.keras       the best model so far, as the run would have ended with it
member-1.keras           of an ensemble instead: a model that is trained, in float32
teacher.keras            where the network has a teacher: it, trained
tensorboard/             logs, where they are asked for

state.json is replaced last and at once. Whatever stops an epoch's keeping, it names whole files.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import SourceError, WriteError
from ..staging import reason
from .runs import Settings

STATE = "state.json"
LOGS = "tensorboard"

# Of the files that tidying looks at.
_SUFFIXES = (".h5", ".keras", ".new")

_HELD_OUT_LOSS = "val_loss"
# The first that there is tells how good the last epoch was.
_LAST_FIGURES = ("accuracy", "loss")


class Best(BaseModel):
    """The best epoch so far: the one of the lowest held-out loss, or where nothing is held out the last one."""

    epoch: int
    """Counted from 1."""
    name: str
    """The figure's name in the history, such as val_loss."""
    figure: float
    """What it was."""

    def __str__(self) -> str:
        """Returns what messages say of it."""
        return f"{self.name} {self.figure:.4f} in epoch {self.epoch}"


class State(BaseModel):
    """How far a run is."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants")

    settings: Settings
    """What the run is made of."""
    request: dict[str, Any]
    """What the caller asked for, so that it need not be asked for again."""
    epochs: int = 0
    """How many are finished."""
    history: dict[str, list[float]] = {}
    """Figures by name, an entry an epoch."""
    best: Best | None = None
    """The best epoch; None: none is finished."""
    training_s: float = 0.0
    """How long training has taken, in seconds."""
    folds: tuple[float, ...] = ()
    """The accuracies that a cross-validation found before; empty: none was asked for."""
    members: dict[str, dict[str, list[float]]] = {}
    """The histories of an ensemble's trained models, or of a network's teacher, by the models' names."""

    @property
    def is_kept(self) -> bool:
        """Whether there is anything to go on from."""
        return bool(self.epochs or self.members)


class Checkpoint:
    """A run's checkpoint on disk. There is no folder before an epoch is kept, or a log written."""

    def __init__(self, run: Path, state: State, *, logged: bool = False) -> None:
        """Stores where the finished run goes to, how far it is, and whether logs for TensorBoard are written."""
        self.folder = folder_of(run)
        self.state = state
        self.logs = self.folder / LOGS if logged else None
        self._trained_before_s = state.training_s
        self._started_s = time.monotonic()

    @property
    def weights(self) -> Path:
        """The file that holds the weights and the optimizer's state after the last finished epoch."""
        return self.folder / f"epoch-{self.state.epochs}.weights.h5"

    @property
    def best_model(self) -> Path | None:
        """The best model so far; None: no epoch is finished."""
        return self.folder / f"best-epoch-{self.state.best.epoch}.keras" if self.state.best else None

    def member(self, name: str) -> Path:
        """Returns the file that holds a trained model of an ensemble, or a network's teacher."""
        return self.folder / f"{name}.keras"

    @property
    def training_s(self) -> float:
        """How long training has taken until now, interruptions left out, in seconds."""
        return self._trained_before_s + time.monotonic() - self._started_s

    def start(self) -> None:
        """Starts the clock of the training time; what has passed since something was kept does not count."""
        self._trained_before_s = self.state.training_s
        self._started_s = time.monotonic()

    def note(self, *, folds: tuple[float, ...]) -> None:
        """Notes what a cross-validation found; it is kept with the next epoch."""
        self.state = self.state.model_copy(update={"folds": folds})

    def keep(
        self, figures: Mapping[str, float], write_weights: Callable[[Path], None], write_best: Callable[[Path], None]
    ) -> None:
        """Keeps the epoch that has just been finished, in place of the one before it.

        Where that fails or is interrupted, the one before it is still kept.

        Args:
            figures: the epoch's, by their names in the history.
            write_weights: writes the weights and the optimizer's state to a file.
            write_best: writes the model to a file; called where this epoch is the best so far.

        Raises:
            WriteError: the disk does not take it.
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

    def keep_member(self, name: str, history: Mapping[str, list[float]], write: Callable[[Path], None]) -> None:
        """Keeps a trained model of an ensemble, or a network's teacher, beside those that were trained before it.

        Args:
            name: the model's, such as member-1 or teacher.
            history: the figures of its training.
            write: writes it to a file.

        Raises:
            WriteError: the disk does not take it.
        """
        members = {**self.state.members, name: dict(history)}
        after = self.state.model_copy(update={"members": members, "training_s": self.training_s})
        with self._writing():
            write(self.member(name))
            _replace(self.folder / STATE, after.model_dump_json(indent=2))
        self.state = after

    def tidy(self) -> None:
        """Removes what the state does not name: files of another epoch, and the folder where nothing is kept."""
        if not self.state.is_kept:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        named = {self.weights, self.best_model, *map(self.member, self.state.members)}
        for path in [path for path in self.folder.iterdir() if path.suffix in _SUFFIXES and path not in named]:
            path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Removes it, since the run is finished."""
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
            raise WriteError(
                f"{self.folder} cannot be written: {reason(error)}; make room, and what was kept before can be resumed"
            ) from error


def folder_of(run: Path) -> Path:
    """Returns the folder of an unfinished run's checkpoint."""
    return run.with_name(f"{run.name}.partial")


def damaged(file: Path, error: Exception) -> SourceError:
    """Returns the error for a checkpoint's file that cannot be read."""
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
