"""Wilson's confidence interval of an accuracy."""

from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # It needs pydantic, which the client's installation lacks.
    from .figures import Evaluation

# Two-sided 95 %: 1.96 standard deviations.
_Z = NormalDist().inv_cdf(0.975)


def wilson(correct: int, samples: int) -> tuple[float, float]:
    """Returns the 95 % confidence interval of an accuracy, fractions of 1.

    Wilson's score interval (E. B. Wilson, Journal of the American Statistical Association 22, 1927, pages 209 to 212).
    Unlike a normal approximation, it stays within 0 and 1, and holds near 100 % and for few samples.
    It covers the choice of the samples only, not that of the training run, nor choices made on these samples.

    Args:
        correct: number of correct predictions.
        samples: number of samples, at least 1.

    Raises:
        ValueError: `correct` is not between 0 and `samples`, or there are no samples.
    """
    if not 0 <= correct <= samples or not samples:
        raise ValueError(f"expected 0 to {samples} correct predictions of at least one sample, received {correct}")
    accuracy = correct / samples
    scale = 1 + _Z**2 / samples
    centre = (accuracy + _Z**2 / (2 * samples)) / scale
    half = _Z / scale * sqrt(accuracy * (1 - accuracy) / samples + (_Z / (2 * samples)) ** 2)
    # Exact at the ends, despite rounding errors of 1e-17.
    return (0.0 if not correct else centre - half, 1.0 if correct == samples else centre + half)


def interval_of(evaluation: "Evaluation") -> tuple[float, float] | None:
    """Returns the interval of an accuracy, or None for a regression, and for samples that the model learned."""
    accuracy = evaluation.metrics.get("accuracy")
    if accuracy is None or evaluation.split == "training":
        return None
    return wilson(round(accuracy * evaluation.samples), evaluation.samples)
