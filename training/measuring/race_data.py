"""What `pixelserve autotune` needs beside a version: labelled samples, and the model's int8 form."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import datasets
from ..errors import SourceError, UsageError
from ..exporting.quantize import Calibration, quantize
from ..runtime import Array
from .evaluation_data import EvaluationData, from_dataset, from_file, known_dataset
from .published import Published, read

INPUTS_FILE = "samples.npz"
INT8_FILE = "int8.onnx"


@dataclass(frozen=True)
class RaceData:
    """Files for a race, in a temporary folder."""

    inputs: Path
    """Labelled samples: an .npz file of inputs by tensor's name."""
    targets: list[int]
    """The class of each."""
    output: str
    """The output with the scores."""
    source: str
    """Where they come from."""
    int8_model: Path | None
    """The model in int8, calibrated on training images; None: see `without_int8`."""
    without_int8: str
    """Why there is no int8 model, or empty."""


def prepare(version: Path, folder: Path, *, samples: Path | None, data_dir: Path | None) -> RaceData:
    """Writes the files of a race.

    Args:
        version: the version's folder.
        folder: where to write.
        samples: an .npz file of inputs x and labels y; None: the data set that the card names.
        data_dir: folder of that data set's official files.

    Raises:
        SourceError: the version has no card, or does not match it.
        SamplesError: the samples do not fit the model.
        UsageError: the card names no known data set, or the model does not predict classes.
    """
    published = read(version)
    data = from_file(published, samples) if samples is not None else from_dataset(published, data_dir)
    if not data.labels:
        raise UsageError(f"{published.title} predicts no classes, so no accuracy is measured; omit --samples")
    np.savez(folder / INPUTS_FILE, **data.inputs)  # type: ignore[arg-type]  # savez takes any keyword
    targets = [int(each) for each in data.targets]
    source = f"{data.count:,} samples of {data.dataset.name} ({data.split})"
    int8_model, reason = _int8(published, data, folder, None if samples is not None else data_dir)
    return RaceData(folder / INPUTS_FILE, targets, data.output, source, int8_model, reason)


def _int8(published: Published, data: EvaluationData, folder: Path, data_dir: Path | None) -> tuple[Path | None, str]:
    if published.card.quantization is not None:
        return None, "the version is quantized already"
    inputs: dict[str, Array] = dict(data.inputs)
    split = data.split
    if data_dir is not None:
        (name,) = inputs
        inputs, split = {name: datasets.load(known_dataset(published), data_dir).train.inputs}, "train"
    content = (published.folder / "model.onnx").read_bytes()
    try:
        made = quantize(content, published.model, Calibration.choose(inputs, split), source=published.title)
    except (SourceError, UsageError) as error:
        return None, str(error)
    (folder / INT8_FILE).write_bytes(made)
    return folder / INT8_FILE, ""
