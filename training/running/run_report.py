"""Assembles a run's report: its data, its results, and its training."""

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .. import learners
from ..datasets import Array, Dataset, Split
from ..recipe import Goal, Recipe
from ..report import Headline, Predictions, Regression, ReportContent, Samples
from ..trained import Trained
from . import runs

_WORDS = {
    "test": "test samples",
    "training": "training samples",
    "validation": "held-out samples",
    "cross-validation": "training samples, each by a model that did not learn it",
}


def in_words(split: str) -> str:
    """Returns a split's samples in words, by its name in metrics.json."""
    return _WORDS.get(split, f"{split} samples")


def gather(
    recipe: Recipe,
    settings: runs.Settings,
    trained: Trained,
    dataset: Dataset,
    measured: Mapping[str, tuple[Split, Array]],
    metrics: dict[str, Any],
    *,
    shown: str,
    headline: Headline,
) -> ReportContent:
    """Returns the content of a run's report.

    Args:
        recipe: the recipe, with overrides.
        settings: the run's settings.
        trained: the model.
        dataset: its data set.
        measured: by split, its samples and the model's outputs for them, float [N, classes] or values float [N, 1].
        metrics: the content of metrics.json.
        shown: the split whose predictions are drawn.
        headline: what the report opens with.
    """
    split, scores = measured[shown]
    are_images = dataset.task == "image"
    classifies = dataset.task != "regression"
    images = split.inputs if are_images else None
    return ReportContent(
        title=settings.recipe,
        headline=headline,
        settings=settings.model_dump(exclude_none=True),
        metrics=metrics,
        versions=runs.library_versions(),
        labels=dataset.labels,
        history=trained.history,
        history_note=learners.of(recipe).history_note(recipe),
        samples=Samples(dataset.train.inputs, dataset.train.targets) if are_images else None,
        predictions=Predictions(scores, split.targets, images, split=in_words(shown)) if classifies else None,
        layers=trained.layers,
        regression=None if classifies else _plane(trained, dataset),
    )


def headline(goal: Goal, figure: float, *, samples: int, claimed: float | None, folder: Path) -> Headline:
    """Returns what a run's report opens with.

    Args:
        goal: what was measured, and on which split.
        figure: the measured figure.
        samples: number of samples it was measured on.
        claimed: the recipe's claim for the same figure, or None.
        folder: the run's folder.
    """
    export = shlex.join(["pixelserve", "export", str(folder), "--to", "models"])
    today = datetime.now(UTC).date().isoformat()
    return Headline(goal.metric, figure, samples, in_words(goal.split), today, claimed, (export,))


def _plane(trained: Trained, dataset: Dataset) -> Regression | None:
    """Returns the plane of a regression on two features, else None."""
    if len(dataset.features) != 2:
        return None
    # Three points determine a plane.
    corners = np.array([[0, 0], [1, 0], [0, 1]], dataset.train.inputs.dtype)
    intercept, first, second = (float(value) for value in trained.predict(corners)[:, 0])
    return Regression(
        features=dataset.train.inputs,
        targets=dataset.train.targets,
        feature_names=(dataset.features[0], dataset.features[1]),
        target_name=dataset.target,
        coefficients=(first - intercept, second - intercept),
        intercept=intercept,
    )
