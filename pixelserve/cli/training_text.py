"""Describes a finished training run for people."""

from collections.abc import Iterator
from typing import Any

_SAMPLES = {
    "validation": "held-out samples",
    "test": "samples of the test split",
    "cross-validation": "training samples, each by a model that did not learn it",
    "training": "training samples, which it learned",
}


def lines(run: Any) -> Iterator[str]:
    """Yields a run's figures, each with its interval and samples, then what to do next."""
    for split, figures in run.figures.items():
        yield f"{split} {_figure(run, split, figures)}"
    if run.chosen_by is not None and run.split != "test":
        yield (
            f"these are figures of {run.chosen_by}: this network learned those samples as well, so only the test split "
            f"can measure it, once it is exported: pixelserve evaluate {run.recipe.name} --split test"
        )
    yield f"wrote {run.folder}; next: pixelserve export {run.folder} --to models"


def _figure(run: Any, split: str, figures: Any) -> str:
    metric = run.recipe.goal.metric
    form = ".2%" if metric == "accuracy" else ".4g"
    evaluation, calibration = figures.evaluation, figures.calibration
    parts = [f"{metric.replace('_', ' ')} {evaluation.metrics[metric]:{form}}"]
    if interval := run.intervals[split]:
        parts.append(f" (95 % interval {interval[0]:.2%} to {interval[1]:.2%})")
    parts.append(f" on {evaluation.samples:,} {_SAMPLES.get(split, split)}")
    if calibration is not None:
        parts.append(f"; calibration error {calibration.expected_calibration_error:.4f}")
    if split == run.split and run.claimed is not None:
        parts.append(f"; the recipe claims {run.claimed:{form}}")
    return "".join(parts)
