"""The effect of each field of Triton's config.pbtxt: served, ignored with a warning, or refused.

One table defines the check, the warning, docs/compatibility.md and their tests. Each field has one row: its own, or
that of a message containing it. `config` and `scheduling` check the values of served fields.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from google.protobuf.message import Message

from pixelserve.imaging.declaration import PICTURE
from pixelserve.oip import model_config_pb2 as pb
from pixelserve.scores import OUTPUT_KIND

from .aliases import ALIASES

INVERSION = "inversion"
"""Our config.pbtxt parameter for dark-on-light pictures."""
TARGET_P99 = "target_p99_ms"
"""Our config.pbtxt parameter for the latency target."""
# Our parameters; Triton passes them to backends and otherwise ignores them.
_OURS = (INVERSION, PICTURE, OUTPUT_KIND, TARGET_P99, *ALIASES)


class Verdict(StrEnum):
    """The effect of a field."""

    SERVED = "served"
    IGNORED = "ignored"
    """No effect, with a warning. Answers are the same."""
    REFUSED = "refused"
    """The model is not loaded, because the field would change its results or its calls."""


SERVED, IGNORED, REFUSED = Verdict.SERVED, Verdict.IGNORED, Verdict.REFUSED


@dataclass(frozen=True)
class Rule:
    """One row of the table."""

    field: str
    """The field's path in ModelConfig, with dots."""
    verdict: Verdict
    """Its effect if set."""
    reason: str
    """The reason, and what to do, in one line."""


_JOINED = "requests are not concatenated into ragged batches; remove it"
_TENSORRT = "is for TensorRT; remove it"
_PINNED = "page-locked memory is used wherever ONNX Runtime supports it"

RULES = (
    Rule("name", SERVED, "if set, must be the folder's name"),
    Rule("platform", SERVED, "if set, must be onnxruntime_onnx"),
    Rule("backend", SERVED, "if set, must be onnxruntime"),
    Rule("runtime", IGNORED, "names a Triton library; ONNX Runtime is the only one here"),
    Rule("version_policy.latest", SERVED, "the highest versions, 1 by default"),
    Rule("version_policy.all", SERVED, "every version on disk"),
    Rule("version_policy.specific", SERVED, "listed versions that are on disk; at least one must be"),
    Rule("max_batch_size", SERVED, "maximum rows of a request and of a batch; 0: the tensors have no batch dimension"),
    Rule("input.name", SERVED, "must be an input of the graph; unlisted inputs are taken from the graph"),
    Rule("input.data_type", SERVED, "must be the graph's"),
    Rule("input.format", SERVED, "returned by ModelConfig; the graph itself decides where the channels are"),
    Rule("input.dims", SERVED, "must fit the graph's; either may have -1"),
    Rule(
        *("input.reshape", SERVED),
        "the graph's shape, of as many elements as `dims`, which clients see; empty for a graph that has the batch "
        "dimension alone",
    ),
    Rule("input.is_shape_tensor", REFUSED, _TENSORRT),
    Rule("input.allow_ragged_batch", REFUSED, _JOINED),
    Rule(
        "input.optional", REFUSED, "every request must contain every input; remove it and send the input from clients"
    ),
    Rule("input.is_non_linear_format_io", REFUSED, _TENSORRT),
    Rule("output.name", SERVED, "must be an output of the graph; unlisted outputs are taken from the graph"),
    Rule("output.data_type", SERVED, "must be the graph's"),
    Rule("output.dims", SERVED, "must fit the graph's; either may have -1"),
    Rule("output.reshape", SERVED, "as for an input"),
    Rule("output.label_filename", SERVED, "a file beside config.pbtxt with one class label a line"),
    Rule("output.is_shape_tensor", REFUSED, _TENSORRT),
    Rule("output.is_non_linear_format_io", REFUSED, _TENSORRT),
    Rule("batch_input", REFUSED, "inputs are not generated from the batch; remove it and send the input from clients"),
    Rule("batch_output", REFUSED, "outputs are split by rows, not by an input's values; remove it"),
    Rule("optimization.graph", IGNORED, "every graph gets ONNX Runtime's full optimization"),
    Rule("optimization.priority", IGNORED, "the operating system schedules the models"),
    Rule("optimization.cuda", IGNORED, "the server's GPU settings apply to all models"),
    Rule(
        "optimization.execution_accelerators", IGNORED, "models run on the execution provider of the server's settings"
    ),
    Rule("optimization.input_pinned_memory", IGNORED, _PINNED),
    Rule("optimization.output_pinned_memory", IGNORED, _PINNED),
    Rule("optimization.gather_kernel_buffer_threshold", IGNORED, "no such kernel exists here"),
    Rule("optimization.eager_batching", IGNORED, "a batch is assembled when its session is free"),
    Rule("dynamic_batching.preferred_batch_size", SERVED, "sizes of 1 to max_batch_size"),
    Rule("dynamic_batching.max_queue_delay_microseconds", SERVED, "counted from the oldest request"),
    Rule("dynamic_batching.preserve_ordering", SERVED, "among all sessions of a version"),
    Rule("dynamic_batching.priority_levels", SERVED, "at most 1,000"),
    Rule("dynamic_batching.default_priority_level", SERVED, "must be one of the levels, if there are any"),
    Rule("dynamic_batching.default_queue_policy", SERVED, "without a size, `--max-queue-size` applies"),
    Rule("dynamic_batching.priority_queue_policy", SERVED, "for existing levels"),
    Rule(
        *("sequence_batching", REFUSED),
        "sequences and their state are not kept; remove it if the model keeps no state",
    ),
    Rule("ensemble_scheduling", REFUSED, "models are not chained; export them as one graph, or call them in turn"),
    Rule("instance_group.name", SERVED, "returned by ModelConfig"),
    Rule("instance_group.kind", SERVED, "KIND_AUTO, KIND_CPU or KIND_GPU (needs a GPU); KIND_MODEL is refused"),
    Rule("instance_group.count", SERVED, "number of sessions, on each listed GPU; at most 128"),
    Rule("instance_group.rate_limiter", IGNORED, "a session runs as soon as it is free"),
    Rule("instance_group.gpus", SERVED, "GPU numbers; not with KIND_CPU"),
    Rule("instance_group.secondary_devices", IGNORED, "models run on the execution provider of the server's settings"),
    Rule("instance_group.profile", IGNORED, "optimization profiles are for TensorRT"),
    Rule("instance_group.passive", REFUSED, "a session that takes no requests is of no use; remove it"),
    Rule(
        "instance_group.host_policy", IGNORED, "bind the process to cores and memory from outside, such as with numactl"
    ),
    Rule(
        "default_model_filename",
        SERVED,
        "a file in the version folder, or a folder there that holds model.onnx; model.onnx by default",
    ),
    Rule(
        *("cc_model_filenames", REFUSED),
        "one file is served on every device; remove it, and name that file in default_model_filename",
    ),
    Rule("metric_tags", IGNORED, "metrics are labelled with the model and the version"),
    Rule(
        "parameters", IGNORED, f"parameters are for Triton's backends; {', '.join(_OURS)} are PixelServe's and served"
    ),
    Rule("model_warmup", SERVED, "run before a version serves; its rows also serve as the row proof"),
    Rule("model_operations", REFUSED, "custom operator libraries are not loaded; export the model without them"),
    Rule(
        *("model_transaction_policy.decoupled", REFUSED),
        "every request gets exactly one answer; remove it or set it to false",
    ),
    Rule(
        "model_repository_agents",
        REFUSED,
        "agents are not run; apply their checks and changes beforehand and remove it",
    ),
    Rule("response_cache.enable", IGNORED, "every request is computed"),
    Rule("model_metrics", IGNORED, "metrics have fixed buckets (docs/metrics.md)"),
)
"""In the order of Triton's definition."""

_BY_FIELD = {rule.field: rule for rule in RULES}


@dataclass(frozen=True)
class Use:
    """A field that a config.pbtxt sets."""

    rule: Rule
    """What becomes of it."""
    place: str
    """Where it is: the path with the numbers of repeated messages, such as input[1].optional."""
    name: str
    """What to call it to people."""


def uses(config: pb.ModelConfig) -> Iterator[Use]:
    """Yields the fields that a configuration sets, each with its rule."""
    yield from _uses(config, "", "")


def ignored_fields(config: pb.ModelConfig | None) -> list[Use]:
    """Returns the fields of a configuration that have no effect, each name once."""
    found = {use.name: use for use in uses(config or pb.ModelConfig()) if use.rule.verdict is IGNORED}
    return list(found.values())


def warning(names: list[str]) -> str:
    """Returns the warning about ignored fields."""
    return f"not served, ignored: {', '.join(names)}"


def _uses(message: Message, path: str, place: str) -> Iterator[Use]:
    for field, value in message.ListFields():
        name, inside = f"{path}{field.name}", f"{place}{field.name}"
        rule = _BY_FIELD.get(name)
        if field.name == "parameters" and rule is not None:
            yield from (Use(rule, f'{inside}["{key}"]', f"{name}.{key}") for key in sorted(value) if key not in _OURS)
        elif rule is not None:
            yield Use(rule, inside, name)
        elif isinstance(value, Message):
            yield from _uses(value, f"{name}.", f"{inside}.")
        else:
            for number, each in enumerate(value):
                yield from _uses(each, f"{name}.", f"{inside}[{number}].")
