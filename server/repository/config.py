"""Reads config.pbtxt (Triton's ModelConfig as protobuf text) and reconciles it with the ONNX graph.

Modules of this folder are the only ones outside api/ and transport/ that know protobuf: this one, `compatibility`
(which fields are served), `pbtxt` (the text), `scheduling`, `aliases`; and `overlay` and `promotion`, which write it.
"""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from pixelserve.imaging.spec import PictureSpec
from pixelserve.oip import model_config_pb2 as pb
from pixelserve.scores import OUTPUT_KIND, OUTPUT_KINDS, OutputKind, parameter
from pixelserve.text import CONFIG_BYTES, TextError, read_text

from ..engine.policy import BatchingPolicy, QueuePolicy
from ..engine.reshape import Reshape, fits
from ..engine.tensors import BY_CONFIG_NAME, FREE, TensorSpec, format_shape
from ..errors import RepositoryError, unreadable
from .compatibility import Verdict, uses
from .labels import LabelFiles
from .layout import DEFAULT_MODEL_FILE, ModelFolder, is_plain
from .pbtxt import MOST_MISTAKES, as_line, error_at, parse, value_name
from .picture import Graph, picture_problems, read_pictures
from .scheduling import batching_problems, instance_problems, read_batching

BACKEND = "onnxruntime"
"""Triton's name for the only backend here."""
PLATFORM = "onnxruntime_onnx"
"""Triton's older name for it."""

Written = pb.ModelConfig
"""A parsed config.pbtxt, for code that only passes it on."""


@dataclass(frozen=True)
class Defaults:
    """Used for what a config.pbtxt does not set."""

    max_batch_size: int
    """Maximum rows per run, for a model with a batch dimension and no config.pbtxt."""
    max_queue_size: int
    """Maximum requests that wait for one model."""
    target_p99_s: float = 0.0
    """Latency that 99 of 100 accepted requests keep, in seconds; 0: no target."""


@dataclass(frozen=True)
class ModelConfig:
    """A model's effective configuration."""

    name: str
    """The model's name: its folder's."""
    batching: BatchingPolicy
    """When requests are merged; `max_batch_size` 0: the tensors have no batch dimension."""
    inputs: tuple[TensorSpec, ...]
    """The graph's inputs, in its order."""
    outputs: tuple[TensorSpec, ...]
    """The graph's outputs, in its order, with their labels."""
    pictures: PictureSpec | None = None
    """Which pictures it accepts; None: none."""
    output_kind: OutputKind | None = None
    """The declared kind of a classifier's output; None if config.pbtxt does not say."""
    written: pb.ModelConfig | None = field(default=None, compare=False, repr=False)
    """config.pbtxt as parsed, or None. Must not be changed."""


def read_config(folder: ModelFolder) -> pb.ModelConfig | None:
    """Reads a model's config.pbtxt; returns None if it does not exist.

    Raises:
        RepositoryError: it does not parse, sets a field that is refused, or has a value that no model could have; the
            message has the line, and what to write there where that is known.
    """
    config, errors = examine_config(folder)
    if errors:
        raise errors[0]
    return config


def examine_config(folder: ModelFolder) -> tuple[pb.ModelConfig | None, list[RepositoryError]]:
    """Reads a model's config.pbtxt, continuing past mistakes.

    Returns:
        The configuration with obvious mistakes corrected, or None if it does not exist or cannot be parsed; and every
        reason why it cannot be served, whatever the graph.
    """
    path = folder.config_file
    try:
        text = read_text(path, CONFIG_BYTES)
    except FileNotFoundError:
        return None, []
    except (OSError, TextError) as error:
        return None, [unreadable(path, error)]
    config, errors = parse(path, text)
    if config is not None:
        problems = chain(
            _unserved(folder, config),
            picture_problems(folder, config),
            batching_problems(folder, config),
            instance_problems(folder, config.instance_group),
        )
        errors += islice(problems, MOST_MISTAKES)
    return config, errors


def _unserved(folder: ModelFolder, config: pb.ModelConfig) -> Iterator[RepositoryError]:
    path = folder.config_file
    if config.name not in ("", folder.name):
        problem = f'name is "{config.name}", the folder\'s is "{folder.name}"; make them equal'
        yield error_at(path, "name", problem, as_line(pb.ModelConfig(name=folder.name)))
    for key, value, served in (("backend", config.backend, BACKEND), ("platform", config.platform, PLATFORM)):
        if value not in ("", served):
            problem = f'"{value}" is not served; only backend: "{BACKEND}" is, for ONNX models'
            yield error_at(path, key, problem, f'{key}: "{served}"')
    for use in uses(config):
        if use.rule.verdict is Verdict.REFUSED:
            yield error_at(path, use.place, f"{use.name} is not served: {use.rule.reason}")
    if config.max_batch_size < 0:
        problem = f"max_batch_size is {config.max_batch_size}; expected 0 or more"
        yield error_at(path, "max_batch_size", problem, "max_batch_size: 0")
    if not is_plain(name := model_file_name(config)):
        problem = f'default_model_filename "{name}" is not the name of a file in the version folder'
        yield error_at(path, "default_model_filename", problem, f'default_model_filename: "{DEFAULT_MODEL_FILE}"')
    if OUTPUT_KIND in config.parameters and _output_kind(config) is None:
        value = config.parameters[OUTPUT_KIND].string_value
        problem = f'parameter {OUTPUT_KIND} is "{value}"; expected one of {", ".join(OUTPUT_KINDS)}'
        nearest = difflib.get_close_matches(value, OUTPUT_KINDS, n=1, cutoff=0) or [OUTPUT_KINDS[0]]
        yield error_at(path, f'parameters["{OUTPUT_KIND}"]', problem, parameter(nearest[0]))


def model_file_name(config: pb.ModelConfig | None) -> str:
    """Returns the name of the model file in a version folder."""
    return (config.default_model_filename if config else "") or DEFAULT_MODEL_FILE


def select_versions(config: pb.ModelConfig | None, versions: Sequence[int]) -> list[int]:
    """Returns the versions on disk that the version policy serves, lowest first; default: the latest one."""
    policy = config.version_policy if config else pb.ModelVersionPolicy()
    match policy.WhichOneof("policy_choice"):
        case "all":
            return sorted(versions)
        case "specific":
            return sorted(set(versions) & set(policy.specific.versions))
        case _:
            return sorted(versions)[-(policy.latest.num_versions or 1) :]


def resolve(
    folder: ModelFolder,
    config: pb.ModelConfig | None,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    defaults: Defaults,
) -> ModelConfig:
    """Combines config.pbtxt, the graph's signature and the defaults.

    Raises:
        RepositoryError: config.pbtxt contradicts the graph, or a label file is missing or of the wrong length.
    """
    if config is None:
        batches = all(spec.shape[:1] == (FREE,) for spec in (*inputs, *outputs))
        queue = QueuePolicy(defaults.max_queue_size)
        policy = BatchingPolicy(
            defaults.max_batch_size if batches else 0, batches, queue, target_p99_s=defaults.target_p99_s
        )
        pictures = read_pictures(folder, None, Graph(inputs, outputs, batches))
        return ModelConfig(folder.name, policy, tuple(inputs), tuple(outputs), pictures)
    for problem in contradictions(folder, config, inputs, outputs):
        raise problem
    policy = read_batching(folder, config, defaults.max_queue_size, defaults.target_p99_s)
    files = {output.name: output.label_filename for output in config.output if output.label_filename}
    read = LabelFiles(folder)
    labelled = tuple(
        replace(spec, labels=read.labels(files[spec.name], spec)) if spec.name in files else spec for spec in outputs
    )
    pictures = read_pictures(folder, config, Graph(inputs, labelled, policy.max_batch_size > 0))
    return ModelConfig(
        folder.name, policy, tuple(inputs), labelled, pictures, output_kind=_output_kind(config), written=config
    )


def contradictions(
    folder: ModelFolder, config: pb.ModelConfig, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> Iterator[RepositoryError]:
    """Yields each contradiction between config.pbtxt and the graph."""
    if config.max_batch_size:
        yield from _fixed_batches(folder, (*inputs, *outputs))
    rows = config.max_batch_size
    for number, taken in enumerate(config.input):
        yield from _disagreements(folder, f"input[{number}]", taken, inputs, rows)
    for number, given in enumerate(config.output):
        yield from _disagreements(folder, f"output[{number}]", given, outputs, rows)


def label_problems(
    folder: ModelFolder, config: pb.ModelConfig, outputs: Sequence[TensorSpec]
) -> Iterator[RepositoryError]:
    """Yields the problems of each label file. The labels of an unknown output may have any length."""
    by_name, read = {spec.name: spec for spec in outputs}, LabelFiles(folder)
    for entry in config.output:
        if entry.label_filename:
            try:
                read.labels(entry.label_filename, by_name.get(entry.name))
            except RepositoryError as error:
                yield error


def _output_kind(config: pb.ModelConfig) -> OutputKind | None:
    """Returns the parameter `output_kind`; None if it is missing or invalid."""
    value = config.parameters[OUTPUT_KIND].string_value if OUTPUT_KIND in config.parameters else ""
    return next((kind for kind in OUTPUT_KINDS if value == kind), None)


def _fixed_batches(folder: ModelFolder, specs: Iterable[TensorSpec]) -> Iterator[RepositoryError]:
    for spec in specs:
        if spec.shape[:1] != (FREE,):
            problem = (
                f"max_batch_size is above 0, but the first dimension of {spec.name} is fixed: "
                f"{format_shape(spec.shape)}; write max_batch_size: 0, or export the model with a free first dimension"
            )
            yield error_at(folder.config_file, "max_batch_size", problem)


def _disagreements(
    folder: ModelFolder,
    place: str,
    entry: pb.ModelInput | pb.ModelOutput,
    specs: Sequence[TensorSpec],
    max_batch_size: int,
) -> Iterator[RepositoryError]:
    path, by_name = folder.config_file, {spec.name: spec for spec in specs}
    spec = by_name.get(entry.name)
    if spec is None:
        problem = f'the model has no tensor "{entry.name}" there; it has {", ".join(by_name)}'
        nearest = difflib.get_close_matches(entry.name, by_name, n=1, cutoff=0) or [""]
        yield error_at(path, f"{place}.name", problem, as_line(pb.ModelInput(name=nearest[0])))
        return
    type_name = value_name(pb.DataType, entry.data_type)
    if BY_CONFIG_NAME.get(type_name) != spec.datatype:
        problem = f"data_type of {entry.name} is {type_name}, the model's is {spec.datatype.config_name}"
        yield error_at(path, f"{place}.data_type", problem, f"data_type: {spec.datatype.config_name}")
    if spec.inside is not None:
        return
    shape = spec.shape[1:] if max_batch_size else spec.shape
    dims, reshaped = tuple(entry.dims), tuple(entry.reshape.shape)
    if _is_reshaped(entry):
        problem = f"reshape of {entry.name} is {format_shape(reshaped)}, the model's shape is {format_shape(shape)}"
        if not Reshape(dims, reshaped).keeps_elements:
            problem = (
                f"dims of {entry.name} are {format_shape(dims)} and its reshape is {format_shape(reshaped)}, another "
                f"number of elements; the model's shape is {format_shape(shape)}"
            )
        keeps = Reshape(dims, shape).keeps_elements
        write = f"reshape {{ shape: {_listed(shape)} }}" if keeps else f"dims: {_listed(shape or (1,))}"
        # If written into `dims`, the reshape must go.
        remedy = "" if keeps else "; remove the reshape"
        yield error_at(path, f"{place}.reshape", f"{problem}{remedy}", write)
    elif not _compatible(dims, shape):
        problem = f"dims of {entry.name} are {format_shape(dims)}, the model's are {format_shape(shape)}"
        yield error_at(path, f"{place}.dims", problem, f"dims: {_listed(shape or (1,))}")


def _listed(shape: tuple[int, ...]) -> str:
    return f"[ {', '.join(map(str, shape))} ]"


def _is_reshaped(entry: pb.ModelInput | pb.ModelOutput) -> bool:
    """Returns whether a tensor's `reshape` differs from its `dims`."""
    return entry.HasField("reshape") and tuple(entry.reshape.shape) != tuple(entry.dims)


def read_reshapes(config: pb.ModelConfig | None) -> dict[str, Reshape]:
    """Returns, by name, the tensors whose shape for clients differs from the graph's."""
    if config is None:
        return {}
    rows = (FREE,) if config.max_batch_size else ()
    entries: list[pb.ModelInput | pb.ModelOutput] = [*config.input, *config.output]
    return {
        entry.name: Reshape((*rows, *entry.dims), (*rows, *entry.reshape.shape))
        for entry in entries
        if _is_reshaped(entry)
    }


def _compatible(configured: tuple[int, ...], graph: tuple[int, ...]) -> bool:
    # Triton's convention for a model whose tensor has only the batch dimension.
    if not graph and configured == (1,):
        return True
    return fits(configured, graph)


def written_outputs(config: pb.ModelConfig) -> list[TensorSpec]:
    """Returns the outputs that a configuration describes with a type, without the graph."""
    return [
        TensorSpec(output.name, BY_CONFIG_NAME[name], tuple(output.dims))
        for output in config.output
        if (name := value_name(pb.DataType, output.data_type)) in BY_CONFIG_NAME
    ]
