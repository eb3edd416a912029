"""Trains a recipe with several seeds that were named beforehand: one run each, and their mean with its spread.

RUN/seed-0 and so on   a run's folder each
RUN/seeds.json         the figures by seed, their mean and spread
RUN/report.html        the same as a page
"""

import json
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pixelserve.interval import wilson

from .. import report
from ..errors import UsageError
from ..progress import say
from ..report import PAGE, PICTURES, ReportContent
from ..staging import check_free
from . import fit, runs
from .dry_run import DryRun
from .fit import TrainingRun


@dataclass(frozen=True)
class SeedRuns:
    """Runs of one recipe that differ in their seeds."""

    folder: Path
    """The folder that holds theirs."""
    runs: tuple[TrainingRun, ...]
    """The runs, in the order in which their seeds were named."""

    @property
    def first(self) -> TrainingRun:
        """The run to export: that of the seed named first, because the best one's figure would be chosen by chance."""
        return self.runs[0]

    @property
    def figures(self) -> dict[int, float]:
        """The quoted figure by seed."""
        return {run.recipe.seed: run.figure for run in self.runs}

    @property
    def are_one_choices(self) -> bool:
        """Whether all are final runs of the same choice, whose one figure they share."""
        return self.first.chosen_by is not None and len({str(run.chosen_by) for run in self.runs}) == 1

    @property
    def mean(self) -> float:
        """The mean of the figures."""
        return statistics.mean(self.figures.values())

    @property
    def deviation(self) -> float | None:
        """Their sample standard deviation; None for a single seed, and for final runs that share a figure."""
        return None if self.are_one_choices or len(self.runs) < 2 else statistics.stdev(self.figures.values())

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of a mean accuracy, as that of one network: the samples are the same for all seeds.

        None for training samples and regressions.
        """
        if self.first.intervals[self.first.split] is None:
            return None
        samples = self.first.figures[self.first.split].evaluation.samples
        return wilson(round(self.mean * samples), samples)

    def as_json(self) -> dict[str, Any]:
        """Returns the output of `pixelserve train --seeds --json`."""
        return {
            "run": str(self.folder),
            "recipe": self.first.recipe.name,
            "export": str(self.first.folder),
            "split": self.first.split,
            "metric": self.first.recipe.goal.metric,
            "by_seed": {str(seed): figure for seed, figure in self.figures.items()},
            "mean": self.mean,
            "lowest": min(self.figures.values()),
            "highest": max(self.figures.values()),
            "standard_deviation": self.deviation,
            "interval": self.interval,
            "one_choice": self.are_one_choices,
            "runs": [run.as_json() for run in self.runs],
        }


def parse(text: str) -> tuple[int, ...]:
    """Returns the seeds of a list such as 0,1,2.

    Raises:
        UsageError: it is not a list of different whole numbers.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts) or len({int(part) for part in parts}) != len(parts):
        raise UsageError(f'--seeds "{text}": expected different whole numbers with commas between them, such as 0,1,2')
    return tuple(map(int, parts))


def train(
    seeds: Sequence[int],
    recipe_name: str,
    *,
    run_dir: Path | None,
    overrides: Mapping[str, Any],
    final: Path | None = None,
    resumed: bool = False,
    **options: Any,
) -> SeedRuns:
    """Trains a recipe once per seed, in order; see `fit.train`.

    Args:
        seeds: the seeds, named before the first run.
        recipe_name: the recipe's name in the zoo.
        run_dir: the folder for all runs; None: a folder in runs/ named after the recipe and the time.
        overrides: changes of the recipe, without a seed.
        final: a run that chose the settings of all; or a folder of runs with these seeds, each of which chose those of
            its seed's final run. None: ordinary runs.
        resumed: whether to keep finished runs, and to resume a stopped one.
        options: the other arguments of `fit.train`.

    Raises:
        UsageError: a seed is given as well, the folder exists, or `final` lacks the run of a seed; and as `fit.train`.
        WriteError: the summary cannot be written.
    """
    folder = run_dir or runs.default_folder(recipe_name)
    choices = _checked(seeds, folder, overrides, final, resumed=resumed)
    done = []
    for number, seed in enumerate(seeds, start=1):
        say(f"seed {seed}, {number} of {len(seeds)}")
        own = {"overrides": {**overrides, "seed": seed}, "final": choices[seed], **options}
        done.append(fit.train(recipe_name, run_dir=folder / runs.folder_of_seed(seed), resumed=resumed, **own))
    found = SeedRuns(folder, tuple(done))
    _write(found)
    return found


def describe(
    seeds: Sequence[int],
    recipe_name: str,
    *,
    run_dir: Path | None,
    overrides: Mapping[str, Any],
    final: Path | None = None,
    **options: Any,
) -> DryRun:
    """Returns what `train` would train first with the same arguments; see `fit.describe` for the others.

    Raises:
        UsageError: as `train`.
    """
    folder = run_dir or runs.default_folder(recipe_name)
    first, choices = seeds[0], _checked(seeds, folder, overrides, final, resumed=False)
    own = {"overrides": {**overrides, "seed": first}, "final": choices[first], **options}
    found = fit.describe(recipe_name, run_dir=folder / runs.folder_of_seed(first), **own)
    return replace(found, seeds=tuple(seeds))


def _checked(
    seeds: Sequence[int], folder: Path, overrides: Mapping[str, Any], final: Path | None, *, resumed: bool
) -> dict[int, Path | None]:
    """Returns the choosing run of each seed."""
    if "seed" in overrides:
        raise UsageError(f"--seed {overrides['seed']} and --seeds: give one of them")
    if not resumed:
        check_free(folder)
    return {seed: _choice(final, seed) for seed in seeds}


def _choice(final: Path | None, seed: int) -> Path | None:
    if final is None or not runs.holds_seeds(final):
        return final
    own = final / runs.folder_of_seed(seed)
    if not runs.is_run(own):
        raise UsageError(f"--final {final}: it holds no run of seed {seed}; give seeds that it has, or one run of it")
    return own


def _write(found: SeedRuns) -> None:
    for path in (found.folder / PAGE, found.folder / runs.SEEDS):
        path.unlink(missing_ok=True)
    shutil.rmtree(found.folder / PICTURES, ignore_errors=True)
    summary = {name: value for name, value in found.as_json().items() if name != "runs"}
    metrics = {**summary, "by_seed": {f"seed {seed}": figure for seed, figure in found.figures.items()}}
    shown = {name: value for name, value in metrics.items() if value is not None and name not in ("run", "recipe")}
    title = f"{found.first.recipe.name}, seeds {', '.join(map(str, found.figures))}"
    report.write(found.folder, ReportContent(title=title, metrics=shown, versions=runs.library_versions()))
    (found.folder / runs.SEEDS).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
