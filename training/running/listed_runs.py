"""The runs in a folder, side by side: their figures, and what differs in their settings."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pixelserve.interval import wilson

from ..errors import SourceError, TrainingError, UsageError
from . import checkpoint, runs

# In this order: a figure on held-out samples compares runs, the others only remind of them.
_SPLITS = ("validation", "cross-validation", "test", "training")
_METRICS = ("accuracy", "mean_squared_error")


@dataclass(frozen=True)
class Figure:
    """A run's figure."""

    metric: str
    """accuracy, a fraction of 1, or mean_squared_error."""
    value: float
    """It."""
    split: str
    """The samples that it was measured on; validation are held-out ones."""
    interval: tuple[float, float] | None
    """An accuracy's 95 % confidence interval, fractions of 1; None if it has none."""


@dataclass(frozen=True)
class ListedRun:
    """A run's row."""

    folder: str
    """The run's folder; of an unfinished run, its checkpoint's."""
    state: Literal["finished", "unfinished", "damaged"]
    """Whether its figures can be trusted."""
    date: str
    """When it was written, UTC, in ISO 8601."""
    recipe: str = ""
    """The recipe's name."""
    dataset: str = ""
    """The data set's usual name."""
    seed: int | None = None
    """The seed."""
    epochs: int | None = None
    """Epochs by its settings; of an unfinished run, the completed ones."""
    figure: Figure | None = None
    """The figure, or None."""
    chosen_by: str | None = None
    """For a final run, the folder of the run whose figure it is."""
    training_s: float | None = None
    """Duration of training, in seconds."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Its settings by path."""
    differs: Mapping[str, Any] = field(default_factory=dict)
    """The settings that are not those of most runs of the recipe."""
    problem: str = ""
    """Why it cannot be read; empty if it can."""

    def as_json(self) -> dict[str, Any]:
        """Returns its entry in the output of `pixelserve runs --json`."""
        return asdict(self)


def listed(folder: Path) -> list[ListedRun]:
    """Returns the runs in a folder: the best first, by accuracy or error, then unfinished and damaged ones.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give the one that holds the runs' folders")
    found = [run for path in _folders(folder) if (run := _read(path, path.relative_to(folder))) is not None]
    return sorted(_with_differences(found), key=_rank)


def _folders(folder: Path) -> Iterator[Path]:
    """Yields the folders in a folder; of one that holds runs of several seeds, those in it."""
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        inside = sorted(path.glob("seed-*")) if not runs.is_run(path) else []
        yield from inside or [path]


def _read(path: Path, name: Path) -> ListedRun | None:
    """Returns a run, or None if the folder is not one."""
    unfinished, finished = path / checkpoint.STATE, path / runs.SETTINGS
    file = unfinished if unfinished.is_file() else finished
    if not file.is_file():
        return None
    date = datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="seconds")
    try:
        return _unfinished(path, str(name), date) if file is unfinished else _finished(path, str(name), date)
    except (TrainingError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return ListedRun(str(name), "damaged", date, problem=str(error).partition("\n")[0])


def _finished(path: Path, name: str, date: str) -> ListedRun:
    settings = runs.read_settings(path)
    metrics = json.loads((path / runs.METRICS).read_text(encoding="utf-8"))
    return ListedRun(
        folder=name,
        state="finished",
        date=date,
        recipe=settings.recipe,
        dataset=settings.dataset,
        seed=settings.seed,
        epochs=settings.learner.get("epochs"),
        figure=_figure(metrics),
        chosen_by=settings.chosen_by.run if settings.chosen_by else None,
        training_s=float(metrics["training_s"]),
        settings=settings.learner,
    )


def _unfinished(path: Path, name: str, date: str) -> ListedRun:
    state = checkpoint.State.model_validate_json((path / checkpoint.STATE).read_bytes())
    settings = state.settings
    return ListedRun(
        folder=name,
        state="unfinished",
        date=date,
        recipe=settings.recipe,
        dataset=settings.dataset,
        seed=settings.seed,
        epochs=state.epochs,
        training_s=state.training_s,
        settings=settings.learner,
    )


def _figure(metrics: Mapping[str, Any]) -> Figure:
    for split in _SPLITS:
        figures = metrics.get(split, {}).get("metrics", {})
        for metric in _METRICS:
            if metric in figures:
                return Figure(metric, figures[metric], split, _interval(metrics[split], metric, split))
    if "cross_validation" in metrics:
        return Figure("accuracy", metrics["cross_validation"]["mean"], "cross-validation", None)
    raise SourceError("metrics.json has no figure")


def _interval(of_split: Mapping[str, Any], metric: str, split: str) -> tuple[float, float] | None:
    samples = of_split.get("samples")
    if metric != "accuracy" or split == "training" or not samples:
        return None
    return wilson(round(of_split["metrics"][metric] * samples), samples)


def _with_differences(found: Iterable[ListedRun]) -> list[ListedRun]:
    found = list(found)
    usual: dict[str, dict[str, str]] = {}
    for recipe in {run.recipe for run in found}:
        of_recipe = [run for run in found if run.recipe == recipe]
        paths = {path for run in of_recipe for path in run.settings}
        # As text, because settings may be lists, which cannot be counted.
        usual[recipe] = {
            path: Counter(json.dumps(run.settings.get(path)) for run in of_recipe).most_common(1)[0][0]
            for path in paths
        }
    return [
        ListedRun(
            **vars(run)
            | {
                "differs": {
                    path: value for path, value in run.settings.items() if json.dumps(value) != usual[run.recipe][path]
                }
            }
        )
        for run in found
    ]


def _rank(run: ListedRun) -> tuple[int, str, float, str]:
    if run.figure is None:
        return (("finished", "unfinished", "damaged").index(run.state), "", 0.0, run.folder)
    better = -run.figure.value if run.figure.metric == "accuracy" else run.figure.value
    return (0, run.figure.metric, better, run.folder)
