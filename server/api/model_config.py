"""ModelConfig: a version's configuration as it holds, in Triton's words."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from pixelserve.oip import model_config_pb2 as pb

from ..engine.tensors import TensorSpec
from ..repository.aliases import set_aliases
from ..repository.config import BACKEND, PLATFORM, ModelConfig
from ..repository.layout import DEFAULT_MODEL_FILE
from ..repository.loader import LoadedVersion

UNMERGED = "pixelserve_unmerged"
"""A parameter of the answer: why requests are not merged, where the model's rows do not allow it."""

_Entry = TypeVar("_Entry", pb.ModelInput, pb.ModelOutput)


def describe(loaded: LoadedVersion, aliases: Mapping[str, int]) -> pb.ModelConfig:
    """Returns what config.pbtxt says, completed with what holds where it is silent.

    Args:
        loaded: the version.
        aliases: the model's versions that have names, by name; they may have moved since it was loaded.
    """
    settled = loaded.config
    config = pb.ModelConfig()
    if settled.written is not None:
        config.CopyFrom(settled.written)
    config.name, config.backend, config.platform = settled.name, BACKEND, PLATFORM
    config.max_batch_size = settled.batching.max_batch_size
    config.default_model_filename = config.default_model_filename or DEFAULT_MODEL_FILE
    if config.version_policy.WhichOneof("policy_choice") is None:
        config.version_policy.latest.num_versions = 1
    rows = config.max_batch_size
    inputs = _completed(config.input, pb.ModelInput, settled.inputs, rows)
    outputs = _completed(config.output, pb.ModelOutput, settled.outputs, rows)
    del config.input[:], config.output[:]
    config.input.extend(inputs)
    config.output.extend(outputs)
    _complete_format(config, settled)
    _complete_scheduling(config, loaded)
    set_aliases(config, aliases)
    return config


def _completed(written: Sequence[_Entry], kind: type[_Entry], specs: Sequence[TensorSpec], rows: int) -> list[_Entry]:
    """Returns an entry for each tensor of the graph, beginning with what config.pbtxt says of it."""
    by_name = {entry.name: entry for entry in written}
    entries = []
    for spec in specs:
        entry = kind()
        entry.CopyFrom(by_name.get(spec.name, entry))
        _fill(entry, spec, rows)
        entries.append(entry)
    return entries


def _fill(entry: pb.ModelInput | pb.ModelOutput, spec: TensorSpec, max_batch_size: int) -> None:
    """Writes what the graph says of a tensor; the batch dimension is not among Triton's `dims`."""
    entry.name = spec.name
    entry.data_type = getattr(pb, spec.datatype.config_name)
    dims = spec.shape[1:] if max_batch_size else spec.shape
    # Triton has no tensor without dims, and says so where there is none beside the batch's.
    if not dims:
        entry.reshape.SetInParent()
    entry.dims[:] = dims or [1]


def _complete_format(config: pb.ModelConfig, settled: ModelConfig) -> None:
    """Says where a picture's channels are: without it, image clients made for Triton give up."""
    if settled.pictures is not None and not config.input[0].format:
        is_last = settled.pictures.layout == "nhwc"
        config.input[0].format = pb.ModelInput.FORMAT_NHWC if is_last else pb.ModelInput.FORMAT_NCHW


def _complete_scheduling(config: pb.ModelConfig, loaded: LoadedVersion) -> None:
    policy = loaded.config.batching
    if loaded.unmerged:
        config.ClearField("dynamic_batching")
        config.parameters[UNMERGED].string_value = loaded.unmerged
    elif loaded.batcher.merges:
        config.dynamic_batching.SetInParent()
        # In Triton a queue without a size has no bound; here it has the setting's.
        config.dynamic_batching.default_queue_policy.max_queue_size = policy.queue.max_queue_size
    if not config.instance_group:
        on_gpu = loaded.in_use.device_id is not None
        kind = pb.ModelInstanceGroup.KIND_GPU if on_gpu else pb.ModelInstanceGroup.KIND_CPU
        gpus = [loaded.in_use.device_id or 0] if on_gpu else []
        config.instance_group.add(name=f"{config.name}_0", count=1, kind=kind, gpus=gpus)
