"""How many requests wait when a run ends: the imbedded Markov chain of a queue that is served in runs of up to K.

After a run that left q requests waiting, the next takes min(q, K) of them; after q = 0 the session idles until a
request arrives, and runs it alone. The steps of the chain are the Poisson arrivals during runs, whose time depends on
their size. The method: Kendall 1953, Annals of Mathematical Statistics 24(3). Service in bulk: Bailey 1954, Journal of
the Royal Statistical Society B 16(1). Runs of 1 to K requests: Neuts 1967, Annals of Mathematical Statistics 38(3).
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FIRST_BOUND = 64
# Solving the chain takes half a second at this bound, and a queue refuses at 1,024 by default.
_LAST_BOUND = 2048
# The share of runs that may end with more waiting than the bound.
_LEFT_OUT = 1e-7


def poisson(means: Floats, most: int) -> Floats:
    """Returns the probabilities of 0 to `most` events along a further last axis, for each mean."""
    counts = np.arange(most + 1)
    log_factorials = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, most + 1)))))
    spread = means[..., np.newaxis]
    # Where the mean is 0, its logarithm is -inf, and that times 0 events is no number.
    logs = np.where(spread > 0, counts * np.log(np.maximum(spread, 1e-300)), np.where(counts == 0, 0.0, -np.inf))
    return np.asarray(np.exp(logs - spread - log_factorials))


def waiting_after_runs(runs_s: Floats, shares: Floats, rate_per_s: float) -> Floats:
    """Returns the probabilities that 0, 1, 2, … requests wait when a run ends.

    Args:
        runs_s: seconds of a run, by its size (1 to K) and its deviation from the mean.
        shares: the share of runs with each deviation.
        rate_per_s: requests that arrive per second, below what the runs can take.
    """
    bound = max(_FIRST_BOUND, 2 * len(runs_s))
    while True:
        by_deviation = zip(shares, runs_s.T, strict=True)
        steps = np.sum([share * poisson(rate_per_s * each_s, bound) for share, each_s in by_deviation], axis=0)
        found = _stationary(_transitions(steps, bound))
        if found[-1] < _LEFT_OUT or bound >= _LAST_BOUND:
            return found
        bound *= 2


def _transitions(steps: Floats, bound: int) -> Floats:
    """Returns the chain's matrix; `steps` are the probabilities of arrivals by the run's size."""
    limit = len(steps)
    matrix = np.zeros((bound + 1, bound + 1))
    for waiting in range(bound + 1):
        left, size = max(waiting - limit, 0), min(max(waiting, 1), limit)
        matrix[waiting, left:] = steps[size - 1, : bound + 1 - left]
        # Whatever goes beyond the bound stays at it.
        matrix[waiting, -1] += max(0.0, 1.0 - matrix[waiting].sum())
    return matrix


def _stationary(matrix: Floats) -> Floats:
    equations = matrix.T - np.eye(len(matrix))
    # They are dependent; one makes room for the sum of the probabilities.
    equations[0] = 1.0
    right = np.zeros(len(matrix))
    right[0] = 1.0
    solved = np.maximum(np.linalg.solve(equations, right), 0.0)
    return np.asarray(solved / solved.sum())
