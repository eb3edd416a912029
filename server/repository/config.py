"""Reads config.pbtxt (Triton's ModelConfig as protobuf text) and settles it with what the ONNX graph says.

With `scheduling`, `aliases` and `promotion`, what knows protobuf outside of api/ and transport/.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast, get_args

from google.protobuf import text_format

from pixelserve.oip import model_config_pb2 as pb

from ..engine.policy import BatchingPolicy, QueuePolicy
from ..engine.tensors import BY_CONFIG_NAME, FREE, TensorSpec, format_shape
from ..errors import RepositoryError
from ..imaging.prepare import Inversion, PictureSpec
from .layout import DEFAULT_MODEL_FILE, ModelFolder, is_plain
from .scheduling import read_batching

_BACKENDS = ("", "onnxruntime")
# A parameter of ours in config.pbtxt, which Triton hands to backends and otherwise ignores.
_INVERSION = "inversion"
_PLATFORMS = ("", "onnxruntime_onnx")


@dataclass(frozen=True)
class Defaults:
    """What holds where a config.pbtxt is absent or silent."""

    max_batch_size: int
    """Rows a run, for a model that batches and has no config.pbtxt."""
    max_queue_size: int
    """Requests that may wait for one model."""


@dataclass(frozen=True)
class ModelConfig:
    """A model's settled configuration."""

    name: str
    """The model's name: its folder's."""
    batching: BatchingPolicy
    """When requests are merged; `max_batch_size` 0: the tensors have no batch dimension."""
    inputs: tuple[TensorSpec, ...]
    """The graph's inputs, in its order."""
    outputs: tuple[TensorSpec, ...]
    """The graph's outputs, in its order, with their labels."""
    pictures: PictureSpec | None = None
    """What pictures it takes; None: it takes none."""
    written: pb.ModelConfig | None = field(default=None, compare=False, repr=False)
    """What config.pbtxt says; None: there is none. Not to be changed."""


def read_config(folder: ModelFolder) -> pb.ModelConfig | None:
    """Reads a model's config.pbtxt; returns None where there is none.

    Raises:
        RepositoryError: it does not parse (the line is named), names another model, or asks for another backend or a
            scheduling that is not served.
    """
    path = folder.config_file
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise RepositoryError(f"{path}: cannot be read: {error}") from error
    try:
        config = text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError as error:
        # The parser's message begins with line:column.
        raise RepositoryError(f"{path}:{error}; expected Triton's ModelConfig as protobuf text") from error
    _check_served(folder, config)
    return config


def _check_served(folder: ModelFolder, config: pb.ModelConfig) -> None:
    path = folder.config_file
    if config.name not in ("", folder.name):
        raise RepositoryError(f'{path}: name is "{config.name}", the folder\'s is "{folder.name}"; make them equal')
    if config.backend not in _BACKENDS or config.platform not in _PLATFORMS:
        named = config.backend or config.platform
        raise RepositoryError(f'{path}: "{named}" is not served; only backend: "onnxruntime" is')
    scheduling = config.WhichOneof("scheduling_choice")
    if scheduling not in (None, "dynamic_batching"):
        raise RepositoryError(f"{path}: {scheduling} is not served; only dynamic_batching is")
    if config.max_batch_size < 0:
        raise RepositoryError(f"{path}: max_batch_size is {config.max_batch_size}; expected 0 or more")


def model_file_name(config: pb.ModelConfig | None) -> str:
    """Returns the name of the model file in a version folder.

    Raises:
        RepositoryError: it leads out of the folder.
    """
    name = (config.default_model_filename if config else "") or DEFAULT_MODEL_FILE
    if not is_plain(name):
        raise RepositoryError(f'default_model_filename "{name}" is not the name of a file in the version folder')
    return name


def select_versions(config: pb.ModelConfig | None, versions: Sequence[int]) -> list[int]:
    """Returns those of the versions on disk that the version policy serves, lowest first; default: the latest one."""
    policy = config.version_policy if config else pb.ModelVersionPolicy()
    match policy.WhichOneof("policy_choice"):
        case "all":
            return sorted(versions)
        case "specific":
            return sorted(set(versions) & set(policy.specific.versions))
        case _:
            return sorted(versions)[-(policy.latest.num_versions or 1) :]


def settle(
    folder: ModelFolder,
    config: pb.ModelConfig | None,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    defaults: Defaults,
) -> ModelConfig:
    """Settles config.pbtxt, the graph's own signature and the defaults.

    Raises:
        RepositoryError: config.pbtxt contradicts the graph, or a label file is missing or of the wrong length.
    """
    if config is None:
        batches = all(spec.shape[:1] == (FREE,) for spec in (*inputs, *outputs))
        queue = QueuePolicy(defaults.max_queue_size)
        policy = BatchingPolicy(defaults.max_batch_size if batches else 0, batches, queue)
        return ModelConfig(folder.name, policy, tuple(inputs), tuple(outputs), _pictures(inputs, outputs, "never"))
    policy = read_batching(folder, config, defaults.max_queue_size)
    _check_tensors(folder, config.input, inputs, policy.max_batch_size)
    _check_tensors(folder, config.output, outputs, policy.max_batch_size)
    if policy.max_batch_size:
        _check_batch_dimension(folder, (*inputs, *outputs))
    files = {output.name: output.label_filename for output in config.output if output.label_filename}
    labelled = (replace(spec, labels=_labels(folder, files.get(spec.name), spec)) for spec in outputs)
    pictures = _pictures(inputs, outputs, _inversion(folder, config)) if policy.max_batch_size else None
    return ModelConfig(folder.name, policy, tuple(inputs), tuple(labelled), pictures, config)


def _inversion(folder: ModelFolder, config: pb.ModelConfig) -> Inversion:
    """Returns the model's rule for dark-on-light pictures: the parameter `inversion`."""
    if _INVERSION not in config.parameters:
        return "never"
    value = config.parameters[_INVERSION].string_value
    for known in get_args(Inversion):
        if value == known:
            return cast(Inversion, known)
    raise RepositoryError(
        f'{folder.config_file}: parameter {_INVERSION} is "{value}"; expected one of {", ".join(get_args(Inversion))}'
    )


def _pictures(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], inversion: Inversion) -> PictureSpec | None:
    """Returns what pictures a model takes: one uint8 input [rows, H, W, 1 or 3] and one output [rows, classes]."""
    if len(inputs) != 1 or len(outputs) != 1 or inputs[0].datatype.name != "UINT8":
        return None
    shape, scores = inputs[0].shape, outputs[0]
    if len(shape) != 4 or shape[0] != FREE or FREE in shape[1:] or shape[3] not in (1, 3):
        return None
    if len(scores.shape) != 2 or not scores.datatype.name.startswith("FP"):
        return None
    return PictureSpec(height=shape[1], width=shape[2], channels=shape[3], inversion=inversion)


def _check_batch_dimension(folder: ModelFolder, specs: Iterable[TensorSpec]) -> None:
    for spec in specs:
        if spec.shape[:1] != (FREE,):
            raise RepositoryError(
                f"{folder.config_file}: max_batch_size is above 0, but the first dimension of {spec.name} is fixed: "
                f"{format_shape(spec.shape)}; write max_batch_size: 0, or export the model with a free first dimension"
            )


def _check_tensors(
    folder: ModelFolder,
    configured: Iterable[pb.ModelInput] | Iterable[pb.ModelOutput],
    specs: Sequence[TensorSpec],
    max_batch_size: int,
) -> None:
    by_name = {spec.name: spec for spec in specs}
    for entry in configured:
        spec = by_name.get(entry.name)
        if spec is None:
            raise RepositoryError(
                f'{folder.config_file}: the model has no tensor "{entry.name}" there; it has {", ".join(by_name)}'
            )
        type_name = pb.DataType.Name(entry.data_type)
        if BY_CONFIG_NAME.get(type_name) != spec.datatype:
            raise RepositoryError(
                f"{folder.config_file}: data_type of {entry.name} is {type_name}, "
                f"the model's is {spec.datatype.config_name}"
            )
        shape = spec.shape[1:] if max_batch_size else spec.shape
        if not _compatible(tuple(entry.dims), shape):
            raise RepositoryError(
                f"{folder.config_file}: dims of {entry.name} are {format_shape(tuple(entry.dims))}, "
                f"the model's are {format_shape(shape)}"
            )


def _compatible(configured: tuple[int, ...], graph: tuple[int, ...]) -> bool:
    # Triton's convention for a model whose tensor has only the batch dimension.
    if not graph and configured == (1,):
        return True
    return len(configured) == len(graph) and all(
        FREE in (wanted, found) or wanted == found for wanted, found in zip(configured, graph, strict=True)
    )


def _labels(folder: ModelFolder, file_name: str | None, spec: TensorSpec) -> tuple[str, ...]:
    if file_name is None:
        return ()
    path = folder.path / file_name
    # A name that leads out of the model's folder is a mistake or an attack; a link is how Kubernetes mounts one.
    if not is_plain(file_name):
        raise RepositoryError(f"{folder.config_file}: label_filename {file_name} is not a file beside config.pbtxt")
    try:
        labels = tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise RepositoryError(f"{path}: cannot be read: {error}; expected one class label a line") from error
    classes = spec.shape[-1] if spec.shape else FREE
    if classes != FREE and len(labels) != classes:
        raise RepositoryError(f"{path}: {len(labels)} labels; {spec.name} has {classes} classes, one label a line each")
    return labels
