"""Reads trained models of every supported format, and converts them to ONNX."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np

from .. import frameworks, runtime
from ..errors import SourceError, UsageError
from ..learners import backprop, logistic
from ..measuring.evaluate import score_each_class
from ..running import runs
from ..runtime import Array
from . import convert, formats, graphs, keras_files, onnx_file, saved_models
from .batch_axis import with_free_batch
from .picture_input import Pictures, check_size, take_scaled_pixels, with_pixels, with_size

_TWO_CLASSES = 2
_AS_IT_IS = Pictures()

Reference = Callable[[Mapping[str, Array]], dict[str, Array]]


@dataclass(frozen=True)
class Source:
    """A trained model, in ONNX and in its original framework."""

    onnx: bytes
    """The ONNX file's content."""
    reference: Reference | None
    """Computes outputs by name from inputs by name in the original framework, samples along the first axis; None for
    models from .onnx files."""
    framework: str
    """The original framework's name."""
    framework_version: str
    """Its version."""
    parameters: int | None
    """Number of weights, or None if unknown."""
    is_classifier: bool
    """Whether the last layer is known to be a softmax, so the outputs need labels."""
    is_regression: bool = False
    """Whether it is known to predict values."""
    labels: tuple[tuple[str, ...], ...] = ()
    """Possible class names from the model, each in index order; at most one of these fits its scores."""
    made_with: Mapping[str, str] = field(default_factory=dict)
    """Versions of the libraries that made an .onnx file, as stated in it."""
    precision: str = "float32"
    """The computation precision."""
    weights: tuple[Path, ...] = ()
    """External data to be written beside the ONNX file, which is limited to 2 GB."""


def is_onnx(path: Path) -> bool:
    """Returns whether a file's name is that of an ONNX file."""
    return path.is_file() and path.suffix.lower() == ".onnx"


def read(path: Path, *, pictures: Pictures = _AS_IT_IS, labels: Sequence[str] = ()) -> Source:
    """Reads a .keras, .h5 or .onnx file or a SavedModel folder.

    Args:
        path: the file or folder.
        pictures: how pixels become the input of a Keras model or SavedModel; the exported model then accepts raw uint8
            pixels and scales them itself.
        labels: class names in index order; for a Keras model with one probability for two classes, the exported one
            has both (see `from_run`).

    Raises:
        SourceError: it is missing, unreadable, or not a model with one input and one output.
        UsageError: `pictures` does not fit the model.
    """
    keras_files.check_whole(path)
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    if (path / "saved_model.pb").is_file():
        return _from_saved_model(path, pictures)
    if path.is_file() and path.suffix.lower() in keras_files.SUFFIXES:
        return from_keras_file(path, pictures=pictures, labels=labels)
    if is_onnx(path):
        if pictures != _AS_IT_IS:
            raise UsageError(
                "--pixel-scale is for Keras models and SavedModels; for an .onnx file, give the range of its "
                "training pixels with --scale, or --mean and --std"
            )
        return _from_onnx(path)
    raise formats.refusal(path)


def from_run(run: Path, labels: Sequence[str]) -> Source:
    """Reads the model in a run's folder, of any learner.

    A model of two classes has a probability for each, even if it was trained with a single one, so labels, their order
    and the highest score mean the same as for any other model.

    Args:
        run: the folder.
        labels: class names in index order; empty for a regression.

    Raises:
        SourceError: the model is missing or unreadable.
        MissingLibraryError: the library that trained it is not installed.
    """
    if (run / backprop.FILE).is_file():
        return _from_layers(run / backprop.FILE, labels)
    if (run / logistic.FILE).is_file():
        return _from_logistic(run / logistic.FILE)
    return from_keras_file(run / runs.MODEL, labels=labels)


def _from_layers(path: Path, labels: Sequence[str]) -> Source:
    trained = backprop.load(path)

    def reference(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"probabilities": score_each_class(trained.predict(inputs["features"]), labels)}

    content = graphs.sigmoid_network(trained.network)
    return Source(content, reference, "numpy", np.__version__, trained.parameters, is_classifier=True)


def _from_logistic(path: Path) -> Source:
    trained = logistic.load(path)

    def reference(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"probabilities": trained.predict(inputs["image"])}

    version = metadata.version("scikit-learn")
    return Source(graphs.logistic(trained), reference, "scikit-learn", version, trained.parameters, is_classifier=True)


def from_keras_file(path: Path, *, pictures: Pictures = _AS_IT_IS, labels: Sequence[str] = ()) -> Source:
    """Reads a .keras or .h5 file; see `read`, and `from_run` for two labels."""
    keras, model = frameworks.load().keras, keras_files.load(path)
    signature = convert.keras_signature(model, source=str(path))
    if signature.activation == "sigmoid" and len(labels) == _TWO_CLASSES and model.outputs[0].shape[-1] == 1:
        signature = convert.with_both_classes(signature)
    return _converted(
        signature, pictures, path, framework="keras", version=keras.__version__, parameters=model.count_params()
    )


def _from_saved_model(path: Path, pictures: Pictures) -> Source:
    tf = frameworks.load().tf
    signature = convert.saved_model_signature(saved_models.load(path), source=str(path))
    return _converted(signature, pictures, path, framework="tensorflow", version=tf.__version__, parameters=None)


def _converted(
    signature: convert.Signature,
    pictures: Pictures,
    path: Path,
    *,
    framework: str,
    version: str,
    parameters: int | None,
) -> Source:
    source = str(path)
    signature = with_free_batch(with_size(signature, pictures, source=source))
    if pictures.scale is not None:
        signature = with_pixels(signature, pictures, source=source)
    model = convert.to_onnx(signature, source=source)
    signature = take_scaled_pixels(signature, model, pictures)
    check_size(signature, model.graph, source=source)
    return Source(
        onnx=convert.content_of(model),
        reference=signature.run,
        framework=framework,
        framework_version=version,
        parameters=parameters,
        is_classifier=signature.activation == "softmax",
    )


def _from_onnx(path: Path) -> Source:
    file = onnx_file.read(path)
    return Source(
        onnx=file.content,
        reference=None,
        framework="onnxruntime",
        framework_version=runtime.version(),
        parameters=file.parameters,
        is_classifier=False,
        is_regression=file.is_regression,
        labels=file.labels,
        precision=file.precision,
        made_with={file.producer: file.producer_version or "unknown"} if file.producer else {},
        weights=file.weights,
    )
