"""Assembles a run's report: its data, its results on the split to quote, and its training."""

from typing import Any

import numpy as np

from ..datasets import Array, Dataset, Split
from ..report import Predictions, Regression, ReportContent, Samples
from ..trained import Trained
from . import runs

_SPLITS = {"test": "test split", "validation": "held-out samples", "training": "training split"}


def gather(
    settings: runs.Settings,
    trained: Trained,
    dataset: Dataset,
    evaluated: tuple[str, tuple[Split, Array]] | None,
    metrics: dict[str, Any],
) -> ReportContent:
    """Returns the content of a run's report.

    Args:
        settings: the run's settings.
        trained: the model.
        dataset: its data set.
        evaluated: the split to draw, with its name and the model's outputs, float [N, classes] or values float [N, 1];
            None if the model learned everything there is.
        metrics: the content of metrics.json.
    """
    classifies = dataset.task != "regression"
    return ReportContent(
        title=settings.recipe,
        settings=settings.model_dump(exclude_none=True),
        metrics=metrics,
        versions=runs.library_versions(),
        labels=dataset.labels,
        history=trained.history,
        samples=Samples(dataset.train.inputs, dataset.train.targets) if dataset.task == "image" else None,
        predictions=_predictions(dataset, evaluated) if classifies and evaluated else None,
        layers=trained.layers,
        regression=None if classifies else _plane(trained, dataset),
    )


def _predictions(dataset: Dataset, evaluated: tuple[str, tuple[Split, Array]]) -> Predictions:
    name, (split, scores) = evaluated
    return Predictions(scores, split.targets, split.inputs if dataset.task == "image" else None, _SPLITS[name])


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
