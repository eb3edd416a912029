"""A run's folder: the trained model with everything that it takes to repeat it and to export it.

settings.json   recipe, seed, data set, and what the recipe's learner was told
history.json    loss and accuracy by split, an entry an epoch
metrics.json    figures by split, the temperature, and the training time
versions.json   version by library
model.keras     the trained model; network.npz or logistic.npz where another library than Keras trained it
report.html     all of it for people, with pictures; pictures/ holds them one by one
tensorboard/    logs, where they are asked for
samples.npz     where it learned a user's own pictures: see `kept`
"""

import json
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from .. import report
from ..datasets import Dataset
from ..errors import SourceError
from ..report import ReportContent
from ..staging import staged
from ..trained import Trained
from . import kept

MODEL = "model.keras"
SETTINGS = "settings.json"
METRICS = "metrics.json"

_LIBRARIES = (
    *("keras", "numpy", "onnx", "onnxruntime", "pixelserve", "scikit-learn", "skl2onnx", "tensorflow"),
    "tf2onnx",
)


class Settings(BaseModel):
    """What a run was made of."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    recipe: str
    """The recipe's name."""
    seed: int
    """Fixes the initial weights and the order of the images."""
    dataset: str
    """The data set's usual name."""
    dataset_sha256: str
    """Its hash, as `datasets.Dataset` defines it."""
    learner: dict[str, Any] = {}
    """What the recipe's learner was told, such as epochs and batch size."""

    @property
    def held_out(self) -> float:
        """The share of the training split that is never learned, a fraction of 1."""
        return float(self.learner.get("held_out", 0.0))


@dataclass(frozen=True)
class Outcome:
    """What a run brought."""

    trained: Trained
    """The trained model, with its history."""
    metrics: dict[str, Any]
    """Figures by split, `temperature`, and `training_s`."""
    report: ReportContent
    """What the run's report shows."""
    logs: Path | None = None
    """The folder of logs that were written for TensorBoard; None: there are none."""
    pictures: Dataset | None = None
    """The user's own pictures that were learned; None: the recipe's data set was."""


def default_folder(recipe: str) -> Path:
    """Returns the folder that a run starting now is written to."""
    return Path("runs") / f"{recipe}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def write(folder: Path, settings: Settings, outcome: Outcome) -> None:
    """Writes a run's folder, whole or not at all.

    Raises:
        TargetExistsError: the folder is there and not empty.
    """
    with staged(folder) as staging:
        outcome.trained.save(staging)
        _write_json(staging / SETTINGS, settings.model_dump())
        _write_json(staging / "history.json", outcome.trained.history)
        _write_json(staging / METRICS, outcome.metrics)
        _write_json(staging / "versions.json", library_versions())
        report.write(staging, outcome.report)
        if outcome.logs is not None:
            shutil.copytree(outcome.logs, staging / "tensorboard")
        if outcome.pictures is not None:
            kept.write(staging, outcome.pictures, settings.held_out)


def is_run(folder: Path) -> bool:
    """Returns whether a folder is a finished run's."""
    return (folder / SETTINGS).is_file()


def read_settings(folder: Path) -> Settings:
    """Reads what a run was made of.

    Raises:
        SourceError: the folder is no run's, or its settings are damaged.
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


def read_temperature(folder: Path) -> float | None:
    """Returns what the logits of a run's model are divided by; None: nothing.

    Raises:
        SourceError: the run's metrics are missing or damaged.
    """
    temperature = read_metric(folder, "temperature")
    return None if temperature is None else float(temperature)


def read_metric(folder: Path, *keys: str) -> Any:
    """Returns what a run's metrics say under these keys, one within the other.

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
    """Returns the version of Python and of each of these libraries that is installed."""
    versions = {"python": platform.python_version()}
    for library in libraries:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
