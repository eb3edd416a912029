"""Times models per sample, on one CPU thread."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from ..runtime import Array, OnnxModel

BATCH_SIZES = (1, 64)
LARGEST_SPREAD = 0.05
"""A ratio of times counts if its last repetitions differ by less, a fraction of it."""
MOST_REPETITIONS = 12
"""Repetitions after which a ratio that still varies is given up."""

_WARM_RUNS = 3
_LEAST_ROUNDS = 20
_BUDGET_S = 1.0
_COMPARED_REPETITIONS = 3
# A round of single samples takes about as long as one of a batch, so the clock's overhead is negligible in both.
_SAMPLES_A_ROUND = 64


def batch_sizes(model: OnnxModel) -> tuple[int, ...]:
    """Returns the batch sizes to time a model with: 1, and 64 if samples may share a batch."""
    return BATCH_SIZES if model.batches else BATCH_SIZES[:1]


def sample_times_s(timed: Sequence[tuple[OnnxModel, Mapping[str, Array]]], batch_size: int) -> Array:
    """Returns each model's time per sample, in seconds, float64 [rounds, models].

    Every round times all models in turn, because a machine's speed drifts, so only times of the same round are
    comparable. Rounds are repeated for about a second, but at least 20 times.

    Args:
        timed: models, each with its inputs: tensors by name, samples along the first axis, repeated if fewer than a
            batch.
        batch_size: samples per run.
    """
    batches = [(model, _batch(model, inputs, batch_size)) for model, inputs in timed]
    for model, batch in batches:
        for _ in range(_WARM_RUNS):
            model.run_once(batch)
    repeats = max(1, _SAMPLES_A_ROUND // batch_size)
    rounds: list[list[float]] = []
    end_s = time.perf_counter() + _BUDGET_S
    while len(rounds) < _LEAST_ROUNDS or time.perf_counter() < end_s:
        rounds.append([_time_s(model, batch, repeats) / (repeats * batch_size) for model, batch in batches])
    return np.array(rounds)


def settled_ratio(timed: Sequence[tuple[OnnxModel, Mapping[str, Array]]], batch_size: int) -> tuple[float, float]:
    """Returns how much longer the first of two models takes than the second, and how much that varied.

    The ratio, the median over the rounds of `sample_times_s`, is repeated until the last three differ by less than 5 %:
    other work on the machine slows a model that it shares a cache with, and not the other. After twelve repetitions it
    is given up.

    Args:
        timed: the two models, each with its inputs.
        batch_size: samples per run.

    Returns:
        The median of the last three ratios, and the distance of the lowest from the highest, a fraction of it.
    """
    ratios: list[float] = []
    while True:
        times_s = sample_times_s(timed, batch_size)
        ratios.append(float(np.median(times_s[:, 0] / times_s[:, 1])))
        last = ratios[-_COMPARED_REPETITIONS:]
        ratio = float(np.median(last))
        spread = (max(last) - min(last)) / ratio
        is_settled = len(last) == _COMPARED_REPETITIONS and spread < LARGEST_SPREAD
        if is_settled or len(ratios) == MOST_REPETITIONS:
            return ratio, spread


def _batch(model: OnnxModel, inputs: Mapping[str, Array], batch_size: int) -> dict[str, Array]:
    if not model.batches:
        return {name: array[0] for name, array in inputs.items()}
    return {name: np.resize(array, (batch_size, *array.shape[1:])) for name, array in inputs.items()}


def _time_s(model: OnnxModel, batch: Mapping[str, Array], repeats: int) -> float:
    started_s = time.perf_counter()
    for _ in range(repeats):
        model.run_once(batch)
    return time.perf_counter() - started_s
