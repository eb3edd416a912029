"""The samples that a run of a user's own data keeps, so it can be exported without the data.

samples.npz holds the test split as `x` and `y`, also for `pixelserve evaluate --samples`, a few hundred training
pictures for an int8 version's calibration, the held-out pictures, and the labels.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ..datasets import Array, Dataset, Split, Task, hold_out
from ..datasets.own import NOTE
from ..errors import SourceError

SAMPLES = "samples.npz"

_CALIBRATION_SAMPLES = 500
_CALIBRATION_SEED = 0
_TASKS: dict[str, Task] = {"image": "image", "tabular": "tabular", "regression": "regression"}


def write(folder: Path, dataset: Dataset, held_out: float) -> None:
    """Writes samples.npz into the folder of a run that held out a share of its training split."""
    train = dataset.train
    unseen = hold_out(train, held_out)[1]
    chosen = np.random.default_rng(_CALIBRATION_SEED).permutation(len(train))[:_CALIBRATION_SAMPLES]
    np.savez_compressed(
        folder / SAMPLES,
        x=dataset.test.inputs,
        y=dataset.test.targets,
        train_x=train.inputs[chosen],
        train_y=train.targets[chosen],
        held_x=unseen.inputs,
        held_y=unseen.targets,
        classes=np.array(dataset.labels, dtype=str),
        task=np.array(dataset.task),
        note=np.array(dataset.note),
    )


def are_in(run: Path) -> bool:
    """Returns whether a run keeps its samples, as those on a user's own pictures do."""
    return (run / SAMPLES).is_file()


def read(run: Path, *, name: str, sha256: str) -> Dataset:
    """Returns the data set of a run's samples, with a few hundred of its training split.

    Args:
        run: the run's folder.
        name: the data set's name, from the run's settings.
        sha256: its hash, from the run's settings.

    Raises:
        SourceError: the file is damaged.
    """
    path = run / SAMPLES
    with _arrays(path) as arrays:
        train, test = Split(arrays["train_x"], arrays["train_y"]), Split(arrays["x"], arrays["y"])
        labels = tuple(str(label) for label in arrays["classes"])
        # Earlier releases kept pictures only.
        task, note = (
            str(arrays[key]) if key in arrays else other for key, other in (("task", "image"), ("note", NOTE))
        )
    return Dataset(name=name, task=_TASKS[task], labels=labels, train=train, test=test, sha256=sha256, note=note)


def read_held_out(run: Path) -> Split:
    """Returns the held-out pictures of a run.

    Raises:
        SourceError: the file is damaged, or of a release that did not keep them.
    """
    with _arrays(run / SAMPLES) as arrays:
        return Split(arrays["held_x"], arrays["held_y"])


@contextlib.contextmanager
def _arrays(path: Path) -> Iterator[Mapping[str, Array]]:
    try:
        with path.open("rb") as file:
            yield np.load(file, allow_pickle=False)
    except Exception as error:  # NumPy and zipfile raise half a dozen errors for a damaged file
        raise SourceError(f"{path}: not the samples of a run ({error}); train again") from error
