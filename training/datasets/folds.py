"""Cuts samples into folds for cross-validation."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from .dataset import Split

Indices = npt.NDArray[np.integer]

# As in `hold_out`, not the run's seed, so different seeds are measured on the same samples.
_FOLDS_SEED = 1


def stratified_folds(split: Split, count: int) -> Iterator[tuple[Indices, Indices]]:
    """Yields for each fold the indices of the samples outside and inside it; the same in every run.

    Every sample is in exactly one fold, and every class has its share of each.

    Args:
        split: the samples, with labels.
        count: number of folds.

    Raises:
        UsageError: a class has fewer samples than there are folds.
    """
    from sklearn.model_selection import StratifiedKFold

    classes, sizes = np.unique(split.targets, return_counts=True)
    if sizes.min() < count:
        raise UsageError(
            f"{count} folds need {count} training samples of every class, but the class of index "
            f"{classes[sizes.argmin()]} has {sizes.min()}; use fewer folds, or give more samples"
        )
    cut = StratifiedKFold(count, shuffle=True, random_state=_FOLDS_SEED)
    yield from cut.split(np.zeros(len(split)), split.targets)
