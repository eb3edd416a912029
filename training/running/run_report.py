"""Assembles a run's report: its data, its results, and its training."""

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pixelserve.figures import Evaluation

from .. import learners
from ..datasets import Array, Dataset, Split
from ..recipe import Metric, Recipe
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
    metrics: dict[str, Any],
    *,
    evaluated: tuple[str, Split, Array] | None,
    headline: Headline,
) -> ReportContent:
    """Returns the content of a run's report.

    Args:
        recipe: the recipe, with overrides.
        settings: the run's settings.
        trained: the model.
        dataset: its data set.
        metrics: the content of metrics.json.
        evaluated: the split whose predictions are drawn: its name, its samples and the model's outputs for them, float
            [N, classes] or values float [N, 1]; None if the model learned all samples.
        headline: what the report opens with.
    """
    are_images = dataset.task == "image"
    classifies = dataset.task != "regression"
    predictions = None
    if evaluated is not None and classifies:
        name, split, scores = evaluated
        images = split.inputs if are_images else None
        predictions = Predictions(scores, split.targets, images, split=in_words(name))
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
        predictions=predictions,
        layers=trained.layers,
        regression=None if classifies else _plane(trained, dataset),
    )


def headline(
    metric: Metric,
    evaluation: Evaluation,
    *,
    claimed: float | None,
    folder: Path,
    chosen_by: runs.ChosenBy | None,
) -> Headline:
    """Returns what a run's report opens with.

    Args:
        metric: what was measured.
        evaluation: the quoted figures.
        claimed: the recipe's claim for the same figure, or None.
        folder: the run's folder.
        chosen_by: for a final run, the run whose figures these are.
    """
    export = shlex.join(["pixelserve", "export", str(folder), "--to", "models"])
    today = datetime.now(UTC).date().isoformat()
    words = in_words(evaluation.split)
    if evaluation.choice_run is not None and chosen_by is not None:
        words += f", by {chosen_by}: this network learned them as well"
    return Headline(metric, evaluation.metrics[metric], evaluation.samples, words, today, claimed, (export,))


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
