"""Reads trained models of every supported format, and converts them to ONNX."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

import numpy as np

from .. import frameworks, runtime
from ..errors import SourceError, UsageError
from ..learners import backprop, logistic
from ..measuring.evaluate import score_each_class
from ..running import runs
from ..runtime import Array
from . import converters, formats, graphs, keras_files, onnx_file, saved_models, signature
from .batch_axis import with_free_batch
from .converters.base import Conversion, choose_opset, content_of, opset_of
from .picture_input import Pictures, check_size, take_scaled_pixels, with_pixels, with_size

_TWO_CLASSES = 2
_AS_IT_IS = Pictures()
_BY_DEFAULT = Conversion()

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
    """Versions of the libraries that made the ONNX file; of an .onnx file, as stated in it."""
    precision: str = "float32"
    """The computation precision."""
    weights: tuple[Path, ...] = ()
    """External data to be written beside the ONNX file, which is limited to 2 GB."""
    function: signature.Signature | None = None
    """The TensorFlow function that was converted; None for models of other libraries."""

    @property
    def opset(self) -> int | None:
        """The version of ONNX's operator set in the file, or None if it uses others only."""
        return opset_of(self.onnx) or None


def is_onnx(path: Path) -> bool:
    """Returns whether a file's name is that of an ONNX file."""
    return path.is_file() and path.suffix.lower() == ".onnx"


def read(
    path: Path, *, pictures: Pictures = _AS_IT_IS, labels: Sequence[str] = (), conversion: Conversion = _BY_DEFAULT
) -> Source:
    """Reads a .keras, .h5 or .onnx file or a SavedModel folder.

    Args:
        path: the file or folder.
        pictures: how pixels become the input of a Keras model or SavedModel; the exported model then accepts raw uint8
            pixels and scales them itself.
        labels: class names in index order; for a Keras model with one probability for two classes, the exported one
            has both (see `from_run`).
        conversion: the converter and its settings.

    Raises:
        SourceError: it is missing, unreadable, or not a model with one input and one output.
        UsageError: `pictures` or `conversion` does not fit the model.
    """
    keras_files.check_whole(path)
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    if (path / "saved_model.pb").is_file():
        return _from_saved_model(path, pictures, conversion)
    if path.is_file() and path.suffix.lower() in keras_files.SUFFIXES:
        return from_keras_file(path, pictures=pictures, labels=labels, conversion=conversion)
    if is_onnx(path):
        if pictures != _AS_IT_IS:
            raise UsageError(
                "--pixel-scale is for Keras models and SavedModels; for an .onnx file, give the range of its "
                "training pixels with --scale, or --mean and --std"
            )
        if replace(conversion, jax_python=None) != _BY_DEFAULT:
            raise UsageError(
                f"{path} is ONNX already and is served as it is: omit --converter and --opset, or have the tool that "
                f"wrote it write another operator set (for PyTorch: opset_version=18)"
            )
        return _from_onnx(path)
    raise formats.refusal(path)


def from_run(run: Path, labels: Sequence[str], *, conversion: Conversion = _BY_DEFAULT) -> Source:
    """Reads the model in a run's folder, of any learner.

    A model of two classes has a probability for each, even if it was trained with a single one, so labels, their order
    and the highest score mean the same as for any other model.

    Args:
        run: the folder.
        labels: class names in index order; empty for a regression.
        conversion: the converter and its settings; models of other libraries than Keras have one converter.

    Raises:
        SourceError: the model is missing or unreadable.
        UsageError: `conversion` does not fit the model.
        MissingLibraryError: the library that trained it is not installed.
    """
    if (run / backprop.FILE).is_file():
        return _from_layers(run / backprop.FILE, labels, _opset_of_other(conversion, run))
    if (run / logistic.FILE).is_file():
        return _from_logistic(run / logistic.FILE, _opset_of_other(conversion, run))
    return from_keras_file(run / runs.MODEL, labels=labels, conversion=conversion)


def _opset_of_other(conversion: Conversion, run: Path) -> int:
    """Returns the operator set for a model of another library than Keras."""
    if conversion.converter != converters.DEFAULT:
        raise UsageError(
            f"--converter {conversion.converter} is for models of Keras, and {run} is not; omit the option"
        )
    return choose_opset(conversion.opset, graphs.OPSETS, graphs.DEFAULT_OPSET, writer="the export of this model")


def _from_layers(path: Path, labels: Sequence[str], opset: int) -> Source:
    trained = backprop.load(path)

    def reference(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"probabilities": score_each_class(trained.predict(inputs["features"]), labels)}

    return Source(
        onnx=graphs.sigmoid_network(trained.network, opset),
        reference=reference,
        framework="numpy",
        framework_version=np.__version__,
        parameters=trained.parameters,
        is_classifier=True,
        made_with=runs.library_versions(("numpy", "onnx", "pixelserve")),
    )


def _from_logistic(path: Path, opset: int) -> Source:
    trained = logistic.load(path)

    def reference(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"probabilities": trained.predict(inputs["image"])}

    return Source(
        onnx=graphs.logistic(trained, opset),
        reference=reference,
        framework="scikit-learn",
        framework_version=metadata.version("scikit-learn"),
        parameters=trained.parameters,
        is_classifier=True,
        made_with=runs.library_versions(("numpy", "onnx", "pixelserve", "scikit-learn", "skl2onnx")),
    )


def from_keras_file(
    path: Path, *, pictures: Pictures = _AS_IT_IS, labels: Sequence[str] = (), conversion: Conversion = _BY_DEFAULT
) -> Source:
    """Reads a .keras or .h5 file; see `read`, and `from_run` for two labels."""
    keras, model = frameworks.load().keras, keras_files.load(path)
    traced = signature.keras_signature(model, source=str(path))
    if traced.activation == "sigmoid" and len(labels) == _TWO_CLASSES and model.outputs[0].shape[-1] == 1:
        traced = signature.with_both_classes(traced)
    source = _converted(traced, pictures, path, conversion)
    return replace(source, framework="keras", framework_version=keras.__version__, parameters=model.count_params())


def _from_saved_model(path: Path, pictures: Pictures, conversion: Conversion) -> Source:
    traced = signature.saved_model_signature(saved_models.load(path), source=str(path))
    return _converted(traced, pictures, path, conversion)


def _converted(traced: signature.Signature, pictures: Pictures, path: Path, conversion: Conversion) -> Source:
    source, converter = str(path), converters.find(conversion.converter)
    opset = choose_opset(
        conversion.opset, converter.opsets, converter.default_opset, writer=f"--converter {conversion.converter}"
    )
    traced = with_free_batch(with_size(traced, pictures, source=source))
    if pictures.scale is not None:
        traced = with_pixels(traced, pictures, source=source)
    converted = converter.convert(traced, conversion, opset=opset, source=source)
    traced = take_scaled_pixels(traced, converted.model, pictures)
    check_size(traced, converted.model.graph, source=source)
    return Source(
        onnx=content_of(converted.model),
        reference=traced.run,
        framework="tensorflow",
        framework_version=frameworks.load().tf.__version__,
        parameters=None,
        is_classifier=traced.activation == "softmax",
        made_with=converted.made_with,
        function=traced,
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
