"""A run's folder: the trained model, and everything needed to repeat and export it.

settings.json   recipe, seed, data set, and the learner's parameters
history.json    loss and accuracy by split, one entry per epoch
metrics.json    figures by split, temperature and training time
figures.json    the same figures in full, as a card has them
options.json    the caller's options, which `pixelserve train --final` need not repeat
versions.json   version by library
model.keras     the trained model; network.npz or logistic.npz if Keras did not train it
report.html     a report with pictures; pictures/ holds them as files
tensorboard/    logs, if requested
samples.npz     for a user's own data only: see `kept`
recipe.py       a copy of a user's own recipe
"""

import json
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from .. import report
from ..datasets import Dataset
from ..errors import SourceError
from ..measuring.evaluate import Figures
from ..report import ReportContent
from ..staging import staged
from ..trained import Trained
from . import kept

MODEL = "model.keras"
SETTINGS = "settings.json"
METRICS = "metrics.json"
RECIPE = "recipe.py"
HISTORY = "history.json"
FIGURES = "figures.json"
OPTIONS = "options.json"
SEEDS = "seeds.json"
"""In a folder that holds runs of several seeds, the figures by seed; see `running.seeds`."""

_LIBRARIES = (
    *("keras", "numpy", "onnx", "onnxruntime", "pixelserve", "scikit-learn", "skl2onnx", "tensorflow"),
    "tf2onnx",
)


_BY_SPLIT = TypeAdapter(dict[str, Figures])


class OwnRecipe(BaseModel):
    """What export needs of a recipe, kept for one that is not of the zoo."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sha256: str | None = None
    """The hash of its file, of which the run's folder has a copy, recipe.py; None if it is from a program."""
    data: str | None = None
    """The name of its public data set; None for own data, of which the run's folder has samples."""
    picture: str = ""
    """The served model's `picture` declaration."""


class ChosenBy(BaseModel):
    """The run whose settings a final run follows; see `running.final`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run: str
    """Its folder, as the caller named it."""
    seed: int
    """Its seed."""
    held_out: float
    """The share of the training split that it held out, a fraction of 1, and the final network learns."""

    def __str__(self) -> str:
        """Returns it in words."""
        return f"{self.run} (seed {self.seed})"


class Settings(BaseModel):
    """A run's settings."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    recipe: str
    """The recipe's name."""
    seed: int
    """Fixes the initial weights and the order of the images."""
    dataset: str
    """The data set's usual name."""
    dataset_sha256: str
    """Its hash, as defined by `datasets.Dataset`."""
    own_recipe: OwnRecipe | None = None
    """For a recipe that is not one of the zoo."""
    hold_out: Literal["stratified"] | None = None
    """How held-out samples were chosen; None: by an earlier release, which held out others."""
    learner: dict[str, Any] = {}
    """The learner's parameters, such as epochs and batch size."""
    chosen_by: ChosenBy | None = None
    """For a final run, the run that its settings, its temperature and its figures come from."""

    @property
    def held_out(self) -> float:
        """The held-out share of the training split, a fraction of 1."""
        return float(self.learner.get("held_out", 0.0))


@dataclass(frozen=True)
class Outcome:
    """A run's results."""

    trained: Trained
    """The trained model, with its history."""
    metrics: dict[str, Any]
    """Figures by split, `temperature`, and `training_s`."""
    report: ReportContent
    """The content of the run's report."""
    figures: dict[str, Figures]
    """The figures by split, in full."""
    options: dict[str, Any]
    """The caller's options."""
    logs: Path | None = None
    """The folder of TensorBoard logs, or None."""
    pictures: Dataset | None = None
    """The user's own data; None if it is a public data set."""
    recipe: bytes | None = None
    """The content of the user's own recipe file, or None."""


def default_folder(recipe: str) -> Path:
    """Returns the default folder of a run that starts now."""
    return Path("runs") / f"{recipe}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def write(folder: Path, settings: Settings, outcome: Outcome) -> None:
    """Writes a run's folder, completely or not at all.

    Raises:
        TargetExistsError: the folder exists and is not empty.
    """
    with staged(folder) as staging:
        outcome.trained.save(staging)
        _write_json(staging / SETTINGS, settings.model_dump())
        _write_json(staging / HISTORY, outcome.trained.history)
        _write_json(staging / METRICS, outcome.metrics)
        _write_json(staging / FIGURES, _BY_SPLIT.dump_python(outcome.figures, mode="json", exclude_none=True))
        _write_json(staging / OPTIONS, outcome.options)
        _write_json(staging / "versions.json", library_versions())
        report.write(staging, outcome.report)
        if outcome.logs is not None:
            shutil.copytree(outcome.logs, staging / "tensorboard")
        if outcome.pictures is not None:
            kept.write(staging, outcome.pictures, settings.held_out)
        if outcome.recipe is not None:
            (staging / RECIPE).write_bytes(outcome.recipe)


def is_run(folder: Path) -> bool:
    """Returns whether a folder is a finished run's."""
    return (folder / SETTINGS).is_file()


def folder_of_seed(seed: int) -> str:
    """Returns the name of a seed's run in a folder of several."""
    return f"seed-{seed}"


def holds_seeds(folder: Path) -> bool:
    """Returns whether a folder holds runs of several seeds."""
    return (folder / SEEDS).is_file()


def first_seed(folder: Path) -> Path:
    """Returns the run of the seed that was named first, in a folder of several.

    Raises:
        SourceError: the folder's summary is damaged.
    """
    return folder / folder_of_seed(int(next(iter(_read_json(folder / SEEDS, "the seeds")["by_seed"]))))


def read_settings(folder: Path) -> Settings:
    """Reads a run's settings.

    Raises:
        SourceError: the folder is not a run's, or its settings are damaged.
    """
    path = folder / SETTINGS
    try:
        return Settings.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SourceError(
            f"{folder} is not a run's folder: {path.name}: {error.strerror}; give one that pixelserve train wrote"
        ) from error
    except ValidationError as error:
        raise SourceError(f"{path}: not the settings of a run ({error.errors()[0]['msg']}); train again") from error


def read_history(folder: Path) -> dict[str, list[float]]:
    """Returns a run's figures by name, one entry per epoch.

    Raises:
        SourceError: the file is missing or damaged.
    """
    return _read_json(folder / HISTORY, "the history")


def read_figures(folder: Path) -> dict[str, Figures]:
    """Returns a run's figures by split, the one to quote first.

    Raises:
        SourceError: the file is damaged, or of a release that did not keep it.
    """
    path = folder / FIGURES
    try:
        return _BY_SPLIT.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise SourceError(f"{path}: not the figures of a run ({error}); train again") from error


def read_options(folder: Path) -> dict[str, Any]:
    """Returns the options that a run was started with; none for a run of a release that did not keep them.

    Raises:
        SourceError: the file is damaged.
    """
    path = folder / OPTIONS
    return _read_json(path, "the options") if path.exists() else {}


def read_temperature(folder: Path) -> float | None:
    """Returns the temperature of a run's model, or None.

    Raises:
        SourceError: the run's metrics are missing or damaged.
    """
    temperature = read_metric(folder, "temperature")
    return None if temperature is None else float(temperature)


def read_metric(folder: Path, *keys: str) -> Any:
    """Returns a value of a run's metrics by nested keys.

    Raises:
        SourceError: the run's metrics are missing or damaged.
    """
    path = folder / METRICS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for key in keys:
            found = found[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: not the metrics of a run ({error}); train again") from error
    return found


def library_versions(libraries: Sequence[str] = _LIBRARIES) -> dict[str, str]:
    """Returns the versions of Python and of the installed libraries."""
    versions = {"python": platform.python_version()}
    for library in libraries:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _read_json(path: Path, what: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: not {what} of a run ({error}); train again") from error
    return found


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
