"""Resumes an unfinished run: finds its checkpoint, and checks that the options are unchanged."""

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..errors import RunInterruptedError, SourceError, TargetExistsError, UsageError
from ..progress import say
from .checkpoint import STATE, Checkpoint, State, damaged, folder_of
from .own import DEFAULTS, PictureOptions
from .runs import Settings


@dataclass(frozen=True)
class Request:
    """The options of a run beside its recipe and folders; stored with an unfinished run."""

    overrides: dict[str, Any]
    """Other values than the recipe's; see `overrides.apply`."""
    tensorboard: bool = False
    """Whether to write logs for TensorBoard."""
    images: Path | None = None
    """The folder of the user's own pictures; None: the recipe's data set."""
    skip_broken: bool = False
    """Whether to skip unreadable pictures."""
    final: Path | None = None
    """The run that chose the settings of a final run; None: this run holds samples out itself."""
    watch: bool = False
    """Whether to show the growing report."""
    mlflow: str | None = None
    """The URI of MLflow's store; None: nothing is logged to it."""
    pictures: PictureOptions = DEFAULTS
    """What the network is to see and start from."""

    def as_json(self) -> dict[str, Any]:
        """Returns the options as plain values."""
        plain: dict[str, Any] = TypeAdapter(Request).dump_python(self, mode="json")
        return plain


@dataclass(frozen=True)
class Unfinished:
    """A run that was interrupted."""

    state: State
    """Its progress."""
    request: Request
    """Its options from when it was started."""


def read(run: Path | None, recipe: str) -> Unfinished | None:
    """Returns the unfinished run of the folder `run`, or None.

    Raises:
        UsageError: it is of another recipe, or no run is given.
        SourceError: its state is damaged.
    """
    if run is None:
        raise UsageError("--resume: give the unfinished run's folder with --run-dir")
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
        TargetExistsError: there is one for `run`, or its leftovers.
    """
    folder = folder_of(run)
    if (folder / STATE).exists():
        raise TargetExistsError(
            f"{folder} holds an unfinished run; continue it with --resume, give another --run-dir, or remove it"
        )
    if folder.exists():
        raise TargetExistsError(
            f"{folder} exists already, without a state to resume; give another --run-dir, or remove it"
        )


def check_same(begun: Settings, now: Settings, run: Path) -> None:
    """Checks that a run continues with the settings it was started with.

    Args:
        begun: the settings of the unfinished or finished run.
        now: the settings to continue with.
        run: its folder.

    Raises:
        UsageError: they differ; the message names the first difference.
    """
    if begun.own_recipe != now.own_recipe:
        raise UsageError(
            f"--resume: {now.recipe} is not the recipe that {run} was started with: its file has changed; restore it, "
            f"or start another run"
        )
    difference = first_difference(begun, now)
    if difference is not None:
        name, before, after = difference
        raise UsageError(
            f"--resume: {run} was started with {name} {before}, not {after}; use the same value, or start another run"
        )


def first_difference(
    begun: Settings, now: Settings, *, ignored: Sequence[str] = ()
) -> tuple[str, object, object] | None:
    """Returns the first setting that differs, with both values; None if all are equal.

    Args:
        begun: the settings of an earlier run.
        now: the settings to compare with.
        ignored: names of settings that may differ.
    """
    before, after = _flat(begun), _flat(now)
    names = [name for name in {**before, **after} if name not in ignored and before.get(name) != after.get(name)]
    return (names[0], before.get(names[0]), after.get(names[0])) if names else None


def as_request(options: dict[str, Any], source: Path) -> Request:
    """Returns the options of an earlier run, from plain values.

    Raises:
        SourceError: they are damaged.
    """
    if not options:
        return Request({})
    try:
        return TypeAdapter(Request).validate_python(options)
    except ValidationError as error:
        raise SourceError(f"{source}: not the options of a run ({error.errors()[0]['msg']}); train again") from error


def completed(given: Request, kept: Request) -> Request:
    """Returns the given options, with missing ones (None, False) filled in from `kept`."""
    values: dict[str, Any] = {}
    for name, value in vars(given).items():
        before = getattr(kept, name)
        if isinstance(value, dict):
            values[name] = before | value
        elif isinstance(value, PictureOptions):
            values[name] = value.completed(before)
        else:
            # Not by equality: a seed of 0 is given.
            values[name] = before if value is None or value is False else value
    return replace(given, **values)


def command(recipe: str, data_dir: Path | None, run: Path) -> str:
    """Returns the command that resumes the run of the folder `run`."""
    places = {"--data-dir": data_dir, "--run-dir": run}
    options = [text for option, path in places.items() if path is not None for text in (option, str(path))]
    return shlex.join(["pixelserve", "train", recipe, *options, "--resume"])


@contextlib.contextmanager
def kept(checkpoint: Checkpoint, command: str) -> Iterator[None]:
    """Removes a run's checkpoint if the block succeeds; if it fails, reports what is kept and how to resume.

    Args:
        checkpoint: the run's checkpoint.
        command: the command that resumes it.

    Raises:
        RunInterruptedError: the block was interrupted.
    """
    try:
        yield
    except KeyboardInterrupt:
        checkpoint.tidy()
        what = (
            _kept(checkpoint, command) or "nothing is saved, because no epoch of a network and no member was finished"
        )
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
        kept.append(f"{', '.join(state.members)}: trained and saved in {checkpoint.folder}")
    if state.best is not None:
        planned = state.settings.learner.get("epochs", "?")
        kept.append(
            f"epoch {state.epochs} of {planned} is saved, and the best one: {state.best}, {checkpoint.best_model}"
        )
    return "; ".join([*kept, f"continue with: {command}"]) if kept else ""


def _flat(settings: Settings) -> dict[str, Any]:
    # Through JSON, like the stored ones: tuples become lists.
    values = Settings.model_validate_json(settings.model_dump_json()).model_dump()
    learner = values.pop("learner")
    return {**values, **learner}
