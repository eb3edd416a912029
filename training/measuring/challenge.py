"""Decides whether a candidate replaces the serving version, by predictions for samples that it never learned.

The decision is McNemar's exact one-sided test: of the samples that exactly one version gets right, the candidate must
get significantly more (Q. McNemar, Psychometrika 12, 1947, pages 153 to 157).
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelserve.card import DataSet

from ..errors import SamplesError, UsageError
from ..exporting import config
from ..exporting.evidence import labelled_output
from ..exporting.publish import versions
from ..exporting.samples import Samples
from ..progress import say
from ..runtime import Array
from . import published, remeasure
from .evaluate import predictions
from .evaluation_data import EvaluationData
from .published import Published

# A candidate that is not better is published once in 20 comparisons. Scheduled exports compare on nearly the same
# samples; without a test, chance alone would replace the serving version every second time.
_SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Unseen:
    """Labelled samples that the candidate never learned from."""

    samples: Samples
    """The samples in hold-out order, so a smaller held-out share is a prefix."""
    share: float | None
    """Their share of the training split, a fraction of 1; None for samples from a file."""


@dataclass(frozen=True)
class Decision:
    """The decision whether to publish a candidate, with its reason."""

    publish: bool
    """Whether it is the first version, or better than the serving one."""
    reason: str
    """One sentence with the deciding figures."""
    serving: int | None = None
    """The version that it was compared with, or None if the model has none."""
    samples: int = 0
    """Number of compared samples."""
    candidate_accuracy: float | None = None
    """The candidate's accuracy, a fraction of 1, or None without a comparison."""
    serving_accuracy: float | None = None
    """The serving version's accuracy, likewise."""
    only_candidate_right: int = 0
    """Samples that only the candidate got right."""
    only_serving_right: int = 0
    """Samples that only the serving version got right."""
    p_value: float | None = None
    """Probability of at least this lead if neither version is better, or None without a comparison."""

    def as_json(self) -> dict[str, Any]:
        """Returns its part of the output of `pixelserve export --if-better --json`."""
        return asdict(self)


def challenge(candidate: Published, unseen: Unseen, model_folder: Path) -> Decision:
    """Compares a candidate with the serving version.

    Args:
        candidate: the candidate, not on disk yet.
        unseen: samples to compare on.
        model_folder: the model's folder in the repository.

    Raises:
        UsageError: the serving version was trained on another data set.
        SourceError: the serving version is damaged or has no card.
        SamplesError: the samples do not fit the serving version.
    """
    number = serving_version(model_folder)
    if number is None:
        return Decision(publish=True, reason="the model has no version yet")
    serving = published.read(model_folder / str(number))
    if unseen.share is not None:
        _check_same_data(candidate, serving)
    shared, note = _shared(candidate, serving, unseen)
    say(f"comparing with {serving.title} on {shared.count:,} samples that the candidate never learned{note}")
    candidate_right, serving_right = (_right(version, shared) for version in (candidate, serving))
    return decide(candidate_right, serving_right, number=number)


def serving_version(model_folder: Path) -> int | None:
    """Returns the version that serves requests without a version, or None if the model has no versions.

    It is the stable one, else the highest that the version policy names, else the highest.
    """
    found = versions(model_folder)
    if not found:
        return None
    stable, named = config.read_served(model_folder / config.CONFIG_FILE)
    if stable in found:
        return stable
    return max([number for number in named if number in found] or found)


def decide(candidate: Array, serving: Array, *, number: int) -> Decision:
    """Decides from both versions' correct predictions of the same samples.

    Args:
        candidate: bool [N], the candidate's correct predictions.
        serving: bool [N], the serving version's correct predictions.
        number: the serving version's number.
    """
    won, lost = int((candidate & ~serving).sum()), int((serving & ~candidate).sum())
    p_value = _lead_by_chance(won, lost)
    return Decision(
        publish=p_value < _SIGNIFICANCE,
        reason=_reason(candidate, serving, won, lost, p_value, number),
        serving=number,
        samples=len(candidate),
        candidate_accuracy=float(candidate.mean()),
        serving_accuracy=float(serving.mean()),
        only_candidate_right=won,
        only_serving_right=lost,
        p_value=p_value,
    )


def _lead_by_chance(won: int, lost: int) -> float:
    """Returns the probability of at least `won` heads in `won + lost` tosses of a fair coin."""
    throws = won + lost
    # With logarithms, because 60,000 tosses have binomial coefficients of 18,000 digits.
    scale = math.lgamma(throws + 1) - throws * math.log(2)
    terms = (scale - math.lgamma(heads + 1) - math.lgamma(throws - heads + 1) for heads in range(won, throws + 1))
    return min(1.0, math.fsum(map(math.exp, terms)))


def _reason(candidate: Array, serving: Array, won: int, lost: int, p_value: float, number: int) -> str:
    figures = (
        f"of {len(candidate):,} samples the candidate gets {candidate.mean():.2%} right and version {number} "
        f"{serving.mean():.2%}; {won:,} only the candidate, {lost:,} only version {number}"
    )
    if p_value < _SIGNIFICANCE:
        return f"{figures}; chance explains such a lead with probability {p_value:.2g}, below {_SIGNIFICANCE}"
    if won <= lost:
        return f"{figures}; the candidate has no lead"
    return f"{figures}; chance explains such a lead with probability {p_value:.2g}, at least {_SIGNIFICANCE}"


def _check_same_data(candidate: Published, serving: Published) -> None:
    learned, before = candidate.card.dataset, serving.card.dataset
    if learned is None or before is None or learned.name != before.name:
        raise UsageError(
            f"{serving.title} was trained on {_named(before)}, the candidate on {_named(learned)}: they cannot be "
            f"compared; export under another --name"
        )


def _named(dataset: DataSet | None) -> str:
    return "an unknown data set" if dataset is None else dataset.name


def _shared(candidate: Published, serving: Published, unseen: Unseen) -> tuple[Samples, str]:
    """Returns the samples that neither version learned, or the candidate's if that is unknown, with a note."""
    if unseen.share is None:
        return unseen.samples, ""
    least = serving.held_out if _data_hash(candidate) == _data_hash(serving) else 0.0
    count = round(unseen.samples.count * min(1.0, least / unseen.share))
    if count:
        return unseen.samples.first(count), ", nor did the serving version"
    return unseen.samples, "; the serving version may have learned some of them, which favours it"


def _data_hash(version: Published) -> str | None:
    return version.card.dataset.sha256 if version.card.dataset else None


def _right(version: Published, samples: Samples) -> Array:
    """Returns a version's correct predictions, bool [N].

    Raises:
        SamplesError: the version has no labels.
    """
    output = labelled_output(version.model, version.labels, version.labelled)
    if output is None or samples.labels is None:
        raise SamplesError(f"{version.title} has no labels, so there is no accuracy to compare")
    data = version.card.dataset or DataSet(name="samples", sha256="")
    own = EvaluationData(samples.inputs, samples.labels, version.labels, output, data, "unseen")
    return np.asarray(predictions(remeasure.outputs_of(version, own)) == samples.labels)
