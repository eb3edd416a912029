"""ModelConfig: a version's effective configuration, in Triton's format."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from pixelserve.oip import model_config_pb2 as pb

from ..engine.tensors import TensorSpec
from ..repository.aliases import set_aliases
from ..repository.config import BACKEND, PLATFORM, ModelConfig
from ..repository.layout import DEFAULT_MODEL_FILE
from ..repository.loaded import LoadedVersion

UNMERGED = "pixelserve_unmerged"
"""A parameter of the answer: why requests are not merged, if the model's rows do not allow it."""

_Entry = TypeVar("_Entry", pb.ModelInput, pb.ModelOutput)


def describe(loaded: LoadedVersion, aliases: Mapping[str, int]) -> pb.ModelConfig:
    """Returns config.pbtxt, completed with effective values.

    Args:
        loaded: the version.
        aliases: the model's named versions, which may have changed since it was loaded.
    """
    resolved = loaded.config
    config = pb.ModelConfig()
    if resolved.written is not None:
        config.CopyFrom(resolved.written)
    config.name, config.backend, config.platform = resolved.name, BACKEND, PLATFORM
    config.max_batch_size = resolved.batching.max_batch_size
    config.default_model_filename = config.default_model_filename or DEFAULT_MODEL_FILE
    if config.version_policy.WhichOneof("policy_choice") is None:
        config.version_policy.latest.num_versions = 1
    rows = config.max_batch_size
    inputs = _completed(config.input, pb.ModelInput, resolved.inputs, rows)
    outputs = _completed(config.output, pb.ModelOutput, resolved.outputs, rows)
    del config.input[:], config.output[:]
    config.input.extend(inputs)
    config.output.extend(outputs)
    _complete_format(config, resolved)
    _complete_scheduling(config, loaded)
    set_aliases(config, aliases)
    return config


def _completed(written: Sequence[_Entry], kind: type[_Entry], specs: Sequence[TensorSpec], rows: int) -> list[_Entry]:
    """Returns an entry for each tensor of the graph, based on its entry in config.pbtxt."""
    by_name = {entry.name: entry for entry in written}
    entries = []
    for spec in specs:
        entry = kind()
        entry.CopyFrom(by_name.get(spec.name, entry))
        _fill(entry, spec, rows)
        entries.append(entry)
    return entries


def _fill(entry: pb.ModelInput | pb.ModelOutput, spec: TensorSpec, max_batch_size: int) -> None:
    """Fills in a tensor's values from the graph; Triton's `dims` exclude the batch dimension."""
    entry.name = spec.name
    entry.data_type = getattr(pb, spec.datatype.config_name)
    dims = spec.shape[1:] if max_batch_size else spec.shape
    # Triton does not allow empty dims, and uses a reshape for tensors with only the batch dimension.
    if not dims:
        entry.reshape.SetInParent()
    entry.dims[:] = dims or [1]


def _complete_format(config: pb.ModelConfig, resolved: ModelConfig) -> None:
    """Sets the position of a picture's channels, which Triton's image clients require."""
    if resolved.pictures is not None and not config.input[0].format:
        is_last = resolved.pictures.layout == "nhwc"
        config.input[0].format = pb.ModelInput.FORMAT_NHWC if is_last else pb.ModelInput.FORMAT_NCHW


def _complete_scheduling(config: pb.ModelConfig, loaded: LoadedVersion) -> None:
    policy = loaded.config.batching
    if loaded.unmerged:
        config.ClearField("dynamic_batching")
        config.parameters[UNMERGED].string_value = loaded.unmerged
    elif loaded.batcher.merges:
        config.dynamic_batching.SetInParent()
        # In Triton a queue without a size is unbounded; here the setting applies.
        config.dynamic_batching.default_queue_policy.max_queue_size = policy.queue.max_queue_size
    if not config.instance_group:
        on_gpu = loaded.in_use.device_id is not None
        kind = pb.ModelInstanceGroup.KIND_GPU if on_gpu else pb.ModelInstanceGroup.KIND_CPU
        gpus = [loaded.in_use.device_id or 0] if on_gpu else []
        config.instance_group.add(name=f"{config.name}_0", count=1, kind=kind, gpus=gpus)
