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
        unseen, option = ("the test split", "--split test") if run.has_test else ("new samples", "--samples FILE.npz")
        yield (
            f"these are figures of {run.chosen_by}: this network learned those samples as well, so only {unseen} "
            f"can measure it, once it is exported: pixelserve evaluate {run.recipe.name} {option}"
        )
    yield f"wrote {run.folder}; next: pixelserve export {run.folder} --to models"


def seed_lines(found: Any) -> Iterator[str]:
    """Yields each seed's figure, their mean with its spread, and which run to export."""
    form = ".2%" if found.first.recipe.goal.metric == "accuracy" else ".4g"
    metric = f"{found.first.split} {found.first.recipe.goal.metric.replace('_', ' ')}"
    if found.are_one_choices:
        yield (
            f"{metric} {found.mean:{form}} of {found.first.chosen_by}: no figure of these networks, which learned "
            f"those samples as well; export each and measure it with pixelserve evaluate --split test"
        )
    else:
        for seed, figure in found.figures.items():
            yield f"seed {seed}: {metric} {figure:{form}}"
        yield f"mean {found.mean:{form}}{_interval(found.interval)}{_spread(found, form)}"
    yield (
        f"wrote {found.folder}; to export is seed {found.first.recipe.seed}, because it was named first, not the best "
        f"one: pixelserve export {found.first.folder} --to models"
    )


def _spread(found: Any, form: str) -> str:
    if found.deviation is None:
        return ""
    lowest, highest = min(found.figures.values()), max(found.figures.values())
    points = f"{100 * found.deviation:.2f} points" if form == ".2%" else f"{found.deviation:.2g}"
    return f", {lowest:{form}} to {highest:{form}}, standard deviation {points}"


def _interval(interval: tuple[float, float] | None) -> str:
    return f" (95 % interval {interval[0]:.2%} to {interval[1]:.2%})" if interval else ""


def _figure(run: Any, split: str, figures: Any) -> str:
    metric = run.recipe.goal.metric
    form = ".2%" if metric == "accuracy" else ".4g"
    evaluation, calibration = figures.evaluation, figures.calibration
    parts = [f"{metric.replace('_', ' ')} {evaluation.metrics[metric]:{form}}"]
    parts.append(_interval(run.intervals[split]))
    parts.append(f" on {evaluation.samples:,} {_SAMPLES.get(split, split)}")
    if calibration is not None:
        parts.append(f"; calibration error {calibration.expected_calibration_error:.4f}")
    if split == run.split and run.claimed is not None:
        parts.append(f"; the recipe claims {run.claimed:{form}}")
    return "".join(parts)
