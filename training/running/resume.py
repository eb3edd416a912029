"""Goes on with an unfinished run: finds its checkpoint, and sees that it is continued as it was begun."""

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ..errors import RunInterruptedError, TargetExistsError, UsageError
from ..progress import say
from .checkpoint import STATE, Checkpoint, State, damaged, folder_of
from .overrides import Overrides
from .remedies import Remedies
from .runs import Settings

Options = TypeVar("Options")


@dataclass(frozen=True)
class Request:
    """What the caller asks of a run, beside its recipe and places; an unfinished run keeps it."""

    overrides: Overrides
    """What differs from the recipe."""
    remedies: Remedies
    """What is done against overfitting."""
    tensorboard: bool = False
    """Whether to write logs for TensorBoard."""
    images: Path | None = None
    """The folder of the user's own pictures; None: the recipe's data set."""
    skip_broken: bool = False
    """Whether to leave out pictures that cannot be read."""

    def as_json(self) -> dict[str, Any]:
        """Returns it as plain values."""
        plain: dict[str, Any] = TypeAdapter(Request).dump_python(self, mode="json")
        return plain


@dataclass(frozen=True)
class Unfinished:
    """A run that was interrupted."""

    state: State
    """How far it is."""
    request: Request
    """What the caller asked for when it was begun."""


def read(run: Path | None, recipe: str) -> Unfinished | None:
    """Returns the unfinished run that was to be written to `run`; None: there is none.

    Raises:
        UsageError: it is another recipe's, or no run is given.
        SourceError: its state is damaged.
    """
    if run is None:
        raise UsageError("--resume: give the folder that the unfinished run was to be written to with --run-dir")
    folder = folder_of(run)
    try:
        state = State.model_validate_json((folder / STATE).read_bytes())
        request = TypeAdapter(Request).validate_python(state.request)
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise damaged(folder / STATE, error) from error
    if state.settings.recipe != recipe:
        raise UsageError(f"--resume: {folder} is a run of {state.settings.recipe}, not of {recipe}; give that recipe")
    return Unfinished(state, request)


def check_none(run: Path) -> None:
    """Checks that no unfinished run would be overwritten.

    Raises:
        TargetExistsError: there is one for `run`, or what is left of one.
    """
    folder = folder_of(run)
    if (folder / STATE).exists():
        raise TargetExistsError(
            f"{folder} holds an unfinished run; go on with --resume, give another --run-dir, or remove it"
        )
    if folder.exists():
        raise TargetExistsError(
            f"{folder} exists already, without a state to resume; give another --run-dir, or remove it"
        )


def check_same(begun: Settings, now: Settings, run: Path) -> None:
    """Checks that a run goes on as it was begun.

    Args:
        begun: the settings of the unfinished or finished run.
        now: what it would go on with.
        run: where it is to be written to.

    Raises:
        UsageError: they differ; the first setting that does is named.
    """
    before, after = _flat(begun), _flat(now)
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            raise UsageError(
                f"--resume: {run} was begun with {name} {before.get(name)}, not {after.get(name)}; "
                f"go on with the same, or start another run"
            )


def completed(given: Options, kept: Options) -> Options:
    """Returns options as they are given, those that are not (None, False) as they were kept."""
    values: dict[str, Any] = {}
    for name, value in vars(given).items():
        before = getattr(kept, name)
        if is_dataclass(value):
            values[name] = completed(value, before)
        else:
            # Not by equality: a seed of 0 is given.
            values[name] = before if value is None or value is False else value
    return replace(given, **values)  # type: ignore[type-var]  # every one of them is a dataclass


def command(recipe: str, data_dir: Path | None, run: Path) -> str:
    """Returns the command that goes on with a run that was to be written to `run`."""
    places = {"--data-dir": data_dir, "--run-dir": run}
    options = [text for option, path in places.items() if path is not None for text in (option, str(path))]
    return shlex.join(["pixelserve", "train", recipe, *options, "--resume"])


@contextlib.contextmanager
def kept(checkpoint: Checkpoint, command: str) -> Iterator[None]:
    """Removes a run's checkpoint where the block succeeds, and where it fails says what is kept and how to go on.

    Args:
        checkpoint: the run's.
        command: what goes on with it.

    Raises:
        RunInterruptedError: the block was interrupted.
    """
    try:
        yield
    except KeyboardInterrupt:
        checkpoint.tidy()
        what = _kept(checkpoint, command) or "nothing is kept, for no epoch of a network and no member was over"
        raise RunInterruptedError(f"the run was stopped; {what}") from None
    except BaseException:
        checkpoint.tidy()
        if what := _kept(checkpoint, command):
            say(what)
        raise
    checkpoint.discard()


def _kept(checkpoint: Checkpoint, command: str) -> str:
    state, kept = checkpoint.state, []
    if state.members:
        kept.append(f"{', '.join(state.members)}: trained, and kept in {checkpoint.folder}")
    if state.best is not None:
        planned = state.settings.learner.get("epochs", "?")
        kept.append(
            f"epoch {state.epochs} of {planned} is kept, and the best one: {state.best}, {checkpoint.best_model}"
        )
    return "; ".join([*kept, f"go on with: {command}"]) if kept else ""


def _flat(settings: Settings) -> dict[str, Any]:
    # Through JSON, as the kept ones have gone: a tuple comes back as a list.
    values = Settings.model_validate_json(settings.model_dump_json()).model_dump()
    learner = values.pop("learner")
    return {**values, **learner}
