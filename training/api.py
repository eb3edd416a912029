"""The Python API: to train, measure and export as the commands do (docs/training-api.md)."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .exporting.export import export_run
from .exporting.exported import Exported, Target
from .exporting.precision import FLOAT32
from .measuring.remeasure import Remeasured, remeasure
from .recipe import Recipe
from .running.fit import TrainingRun, train

__all__ = ["evaluate", "export", "fit"]


def fit(
    recipe: str | Path | Recipe,
    run_dir: str | Path | None = None,
    *,
    overrides: Mapping[str, Any] = MappingProxyType({}),
    data_dir: str | Path | None = None,
    images: str | Path | None = None,
    resume: bool = False,
) -> TrainingRun:
    """Trains a recipe, as `pixelserve train`.

    Args:
        recipe: its name in the zoo, a Python file with a RECIPE, or a recipe.
        run_dir: the run's folder; None: a folder in runs/ named after the recipe and the time.
        overrides: other values than the recipe's, by short name such as epochs, or by path such as optimizer.momentum.
        data_dir: folder of the data set's official files; None: Keras downloads them.
        images: folder of your own pictures, one folder per class; None: the recipe's data set.
        resume: whether to resume the stopped run of `run_dir`, or to keep a finished one.

    Raises:
        TrainingError: the run cannot be started or finished; its subclasses in `errors` say why.
    """
    return train(
        recipe if isinstance(recipe, Recipe) else str(recipe),
        data_dir=_path(data_dir),
        run_dir=_path(run_dir),
        overrides=overrides,
        images=_path(images),
        resumed=resume,
    )


def export(
    run: str | Path,
    repository: str | Path,
    *,
    name: str | None = None,
    version: int | None = None,
    precision: str = FLOAT32,
    data_dir: str | Path | None = None,
) -> Exported:
    """Exports a run as a version in a model repository, with its evidence, as `pixelserve export`.

    Args:
        run: the run's folder.
        repository: the model repository; created if missing.
        name: the model's name; None: the recipe's, or that of the folder of your own pictures.
        version: the version's number; None: the next free one.
        precision: float32 or int8.
        data_dir: folder of the data set's official files; None: Keras downloads them.

    Raises:
        TrainingError: the run cannot be exported; its subclasses in `errors` say why.
    """
    return export_run(Path(run), Target(Path(repository), name, version, precision=precision), data_dir=_path(data_dir))


def evaluate(
    model: str, repository: str | Path, *, data_dir: str | Path | None = None, samples: str | Path | None = None
) -> Remeasured:
    """Measures a model's version with ONNX Runtime alone, as `pixelserve evaluate`.

    Args:
        model: the model's name, of its highest version, or NAME/VERSION.
        repository: the model repository.
        data_dir: folder of the data set's official files; None: Keras downloads them.
        samples: an .npz file of inputs x and labels y; None: the data set of the model's card.

    Raises:
        TrainingError: it cannot be measured; its subclasses in `errors` say why.
    """
    return remeasure(model, repository=Path(repository), data_dir=_path(data_dir), samples=_path(samples))


def _path(place: str | Path | None) -> Path | None:
    return None if place is None else Path(place)
