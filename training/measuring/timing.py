"""How long models take for a sample, on one thread of the CPU."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from ..runtime import Array, OnnxModel

BATCH_SIZES = (1, 64)

_WARM_RUNS = 3
_LEAST_ROUNDS = 20
_BUDGET_S = 1.0
# A round of single samples is about as long as one of a whole batch, so that the clock costs neither anything.
_SAMPLES_A_ROUND = 64


def batch_sizes(model: OnnxModel) -> tuple[int, ...]:
    """Returns the batch sizes that a model is timed with: one sample, and 64 where samples share a run."""
    return BATCH_SIZES if model.batches else BATCH_SIZES[:1]


def sample_times_s(timed: Sequence[tuple[OnnxModel, Mapping[str, Array]]], batch_size: int) -> Array:
    """Returns the time that each model takes for a sample, in seconds, float64 [rounds, models].

    Every round times all models, one after the other: a machine's speed drifts, so that times of the same round alone
    may be compared. Rounds are repeated for about a second, but at least 20 times.

    Args:
        timed: models, each with its inputs: tensors by name, samples along the first axis; fewer than a batch are
            repeated.
        batch_size: samples a run.
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


def _batch(model: OnnxModel, inputs: Mapping[str, Array], batch_size: int) -> dict[str, Array]:
    if not model.batches:
        return {name: array[0] for name, array in inputs.items()}
    return {name: np.resize(array, (batch_size, *array.shape[1:])) for name, array in inputs.items()}


def _time_s(model: OnnxModel, batch: Mapping[str, Array], repeats: int) -> float:
    started_s = time.perf_counter()
    for _ in range(repeats):
        model.run_once(batch)
    return time.perf_counter() - started_s
