"""Writes config.pbtxt, Triton's model configuration as protobuf text, and compares one on disk with a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format

from pixelserve.imaging.declaration import PICTURE
from pixelserve.oip import model_config_pb2 as pb
from pixelserve.scores import OUTPUT_KIND, OUTPUT_KINDS, OutputKind
from pixelserve.text import CONFIG_BYTES, LABELS_BYTES, read_lines, read_text

from ..errors import UsageError
from ..runtime import OnnxModel, Tensor

CONFIG_FILE = "config.pbtxt"
LABELS_FILE = "labels.txt"
DEFAULT_MAX_BATCH_SIZE = 64
INVERSION = "inversion"
"""Parameter that overrides the declared inversion."""
STABLE = "stable"
"""Parameter that names the version for requests without one."""

_CHANNELS = (1, 3)
# Smaller inputs may be anything, such as a window of a signal.
_SMALLEST_SIDE = 8

_AnyTensor = TypeVar("_AnyTensor", pb.ModelInput, pb.ModelOutput)


def render(
    name: str,
    model: OnnxModel,
    *,
    labelled: str | None,
    picture: str = "",
    max_batch_size: int | None = None,
    output_kind: OutputKind | None = None,
    merge: bool = True,
) -> str:
    """Returns the configuration of a model.

    Args:
        name: the model's name.
        model: the exported model.
        labelled: the output whose last dimension the label file names, or None without a label file.
        picture: image preprocessing, in the syntax of docs/pictures.md; empty: the default.
        max_batch_size: maximum samples in a batch; None: 64, or 0 if the model has no batch dimension.
        output_kind: the kind of a classifier's output, or None if unknown.
        merge: whether requests may share a run, if the model has a batch dimension.
    """
    written = pb.ModelConfig(
        name=name,
        platform="onnxruntime_onnx",
        backend="onnxruntime",
        max_batch_size=(max_batch_size or DEFAULT_MAX_BATCH_SIZE) if model.batches else 0,
        input=[_described(pb.ModelInput, tensor, model) for tensor in model.inputs],
        output=[_described(pb.ModelOutput, tensor, model) for tensor in model.outputs],
    )
    for taken in written.input:
        taken.format = _format(taken.dims)
    for output in written.output:
        if output.name == labelled:
            output.label_filename = LABELS_FILE
    if model.batches and merge:
        written.dynamic_batching.SetInParent()
    if picture:
        written.parameters[PICTURE].string_value = picture
    if output_kind is not None:
        written.parameters[OUTPUT_KIND].string_value = output_kind
    return text_format.MessageToString(written, as_utf8=True, use_short_repeated_primitives=True)


def _described(kind: type[_AnyTensor], tensor: Tensor, model: OnnxModel) -> _AnyTensor:
    dims = model.sample_shape(tensor)
    # Triton has no empty dims: a tensor of one number per sample is [ 1 ], reshaped to [ ].
    entry = kind(name=tensor.name, data_type=tensor.config_type, dims=dims or (1,))
    if not dims:
        entry.reshape.SetInParent()
    return entry


def _format(dims: Sequence[int]) -> pb.ModelInput.Format:
    """Returns an image input's channel order, which Triton's image clients need; FORMAT_NONE for other inputs."""
    if len(dims) == 3:
        if dims[2] in _CHANNELS and _are_sides(dims[:2]):
            return pb.ModelInput.FORMAT_NHWC
        if dims[0] in _CHANNELS and _are_sides(dims[1:]):
            return pb.ModelInput.FORMAT_NCHW
    return pb.ModelInput.FORMAT_NONE


def _are_sides(dims: Sequence[int]) -> bool:
    return all(size == -1 or size >= _SMALLEST_SIDE for size in dims)


def check_batches(model: OnnxModel, max_batch_size: int | None) -> None:
    """Raises UsageError if `max_batch_size` is given for a model without a batch dimension."""
    if max_batch_size is not None and not model.batches:
        raise UsageError(
            f"--max-batch-size {max_batch_size}: the model has no batch dimension; omit the option, or save the model "
            f"with a free first dimension"
        )


def read_output_kind(path: Path) -> OutputKind | None:
    """Returns the output kind in a configuration on disk, or None if it has none or is unreadable."""
    config = _read(path)
    value = config.parameters[OUTPUT_KIND].string_value if OUTPUT_KIND in config.parameters else ""
    return next((kind for kind in OUTPUT_KINDS if kind == value), None)


def read_picture(path: Path) -> tuple[str, str]:
    """Returns the parameters `picture` and `inversion` of a configuration on disk; empty if missing."""
    config = _read(path)
    picture, inversion = (
        config.parameters[key].string_value if key in config.parameters else "" for key in (PICTURE, INVERSION)
    )
    return picture, inversion


def read_labelled_output(path: Path) -> str | None:
    """Returns the labelled output in a configuration on disk, or None if it has none or is unreadable."""
    return next((output.name for output in _read(path).output if output.label_filename), None)


def read_served(path: Path) -> tuple[int | None, list[int]]:
    """Returns the stable version and the versions in the version policy of a configuration on disk, if any."""
    config = _read(path)
    stable = config.parameters[STABLE].string_value if STABLE in config.parameters else ""
    return int(stable) if stable.isdecimal() else None, list(config.version_policy.specific.versions)


def _read(path: Path) -> pb.ModelConfig:
    try:
        return text_format.Parse(read_text(path, CONFIG_BYTES), pb.ModelConfig())
    except (OSError, ValueError, text_format.ParseError):
        # The model is refused elsewhere.
        return pb.ModelConfig()


def check_output_kind(path: Path, kind: OutputKind | None) -> None:
    """Checks that a new version's output kind matches the configuration on disk, if that has one.

    Raises:
        UsageError: they differ.
    """
    written = read_output_kind(path)
    if written is not None and kind is not None and written != kind:
        raise UsageError(
            f"{path}: {OUTPUT_KIND} is {written}, the new version gives {kind}; {_SHARED}, or give --output-kind "
            f"{written} if that is correct"
        )


def check_agrees(path: Path, model: OnnxModel, labels: Sequence[str], max_batch_size: int | None = None) -> None:
    """Checks that a configuration on disk, which may have been edited, describes `model` and its labels.

    Settings that do not concern tensors (instance groups, batching, version policy) may differ.

    Raises:
        UsageError: it is unreadable, or a tensor's name, type or shape, the labels or the given maximum batch size
            differ.
    """
    try:
        config = text_format.Parse(read_text(path, CONFIG_BYTES), pb.ModelConfig())
        batches = config.max_batch_size > 0
        entries = {
            "input": [_entry(entry, batches) for entry in config.input],
            "output": [_entry(entry, batches) for entry in config.output],
        }
        label_files = [path.with_name(entry.label_file) for entry in entries["output"] if entry.label_file]
        found_labels = list(read_lines(label_files[0], LABELS_BYTES)) if label_files else []
    except (OSError, ValueError, text_format.ParseError) as error:
        raise UsageError(f"{path}: cannot be read as this model's configuration: {error}; correct it first") from error
    if max_batch_size not in (None, config.max_batch_size):
        raise UsageError(
            f"{path}: max_batch_size is {config.max_batch_size}, not {max_batch_size}; all versions share it: change "
            f"it there, or export under another --name"
        )
    for group, tensors in (("input", model.inputs), ("output", model.outputs)):
        for entry in entries[group]:
            _check_entry(path, group, entry, tensors)
    if found_labels != list(labels):
        raise UsageError(
            f"{label_files[0] if label_files else path}: its labels are {_listing(found_labels)}, "
            f"the new version's are {_listing(labels)}; {_SHARED}"
        )


_SHARED = "all versions of a model share them: export under another --name"


@dataclass(frozen=True)
class _Entry:
    name: str
    config_type: str
    # As in the graph, including the batch dimension.
    shape: tuple[int, ...]
    label_file: str


def _entry(entry: pb.ModelInput | pb.ModelOutput, batches: bool) -> _Entry:
    dims = tuple(entry.reshape.shape if entry.HasField("reshape") else entry.dims)
    label_file = entry.label_filename if isinstance(entry, pb.ModelOutput) else ""
    return _Entry(entry.name, pb.DataType.Name(entry.data_type), (-1, *dims) if batches else dims, label_file)


def _check_entry(path: Path, group: str, entry: _Entry, tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        same_type = (entry.name, entry.config_type) == (tensor.name, tensor.config_type)
        if same_type and _compatible(entry.shape, tensor.shape):
            return
    expected = " and ".join(f"{tensor.name} {tensor.config_type} {list(tensor.shape)}" for tensor in tensors)
    raise UsageError(
        f"{path}: has the {group} {entry.name} {entry.config_type} {list(entry.shape)}, "
        f"the new version has {expected}; {_SHARED}"
    )


def _compatible(configured: tuple[int, ...], graph: tuple[int, ...]) -> bool:
    return len(configured) == len(graph) and all(
        -1 in (wanted, found) or wanted == found for wanted, found in zip(configured, graph, strict=True)
    )


def _listing(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "") or "none"
