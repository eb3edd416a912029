"""The samples that a run of a user's own data keeps, so it can be exported without the data.

samples.npz holds as `x` and `y` what the run was measured on, also for `pixelserve evaluate --samples`: the test split;
without one the held-out samples, or, if there are none either, the training samples. Beside them are a few hundred of
the samples that were learned, for an int8 version's calibration, the held-out ones, and the labels.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ..datasets import Array, Dataset, Split, SplitName, Task, hold_out
from ..datasets.own import NOTE
from ..errors import SourceError

SAMPLES = "samples.npz"

_CALIBRATION_SAMPLES = 500
_CALIBRATION_SEED = 0
_TASKS: dict[str, Task] = {"image": "image", "tabular": "tabular", "regression": "regression"}
_SPLITS: dict[str, SplitName] = {"test": "test", "validation": "validation", "training": "training"}


def write(folder: Path, dataset: Dataset, held_out: float) -> None:
    """Writes samples.npz into the folder of a run that held out a share of its training split."""
    learned, unseen = hold_out(dataset.train, held_out)
    split, measured = dataset.quoted(held_out)
    chosen = np.random.default_rng(_CALIBRATION_SEED).permutation(len(learned))[:_CALIBRATION_SAMPLES]
    np.savez_compressed(
        folder / SAMPLES,
        x=measured.inputs,
        y=measured.targets,
        train_x=learned.inputs[chosen],
        train_y=learned.targets[chosen],
        held_x=unseen.inputs,
        held_y=unseen.targets,
        classes=np.array(dataset.labels, dtype=str),
        task=np.array(dataset.task),
        note=np.array(dataset.note),
        split=np.array(split),
        sha256=np.array(dataset.sha256),
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
        measured, learned = Split(arrays["x"], arrays["y"]), Split(arrays["train_x"], arrays["train_y"])
        labels = tuple(str(label) for label in arrays["classes"])
        # Earlier releases kept pictures only, and not the split's name.
        task, note, split = (
            str(arrays[key]) if key in arrays else other
            for key, other in (("task", "image"), ("note", NOTE), ("split", "test"))
        )
    match split:
        case "validation":
            train = test = _with_held_out(learned, measured)
        case "training":
            train = test = measured
        case _:
            train, test = learned, measured
    return Dataset(name=name, task=_TASKS[task], labels=labels, train=train, test=test, sha256=sha256, note=note)


def _with_held_out(learned: Split, held_out: Split) -> Split:
    """Returns a training split of which `hold_out` gives these two back."""
    return Split(
        np.concatenate([learned.inputs, held_out.inputs]),
        np.concatenate([learned.targets, held_out.targets]),
        validation=np.arange(len(learned) + len(held_out)) >= len(learned),
    )


def origin(path: Path) -> tuple[str, SplitName] | None:
    """Returns the hash of the data set that a file's samples are of, and their split; None: they are not a run's."""
    with _arrays(path) as arrays:
        if "sha256" not in arrays or (split := _SPLITS.get(str(arrays.get("split")))) is None:
            return None
        return str(arrays["sha256"]), split


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
