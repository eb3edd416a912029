"""ModelConfig: a version's configuration as it holds, in Triton's words."""

from collections.abc import Sequence

from pixelserve.oip import model_config_pb2 as pb

from ..engine.providers import CUDA
from ..engine.tensors import TensorSpec
from ..repository.layout import DEFAULT_MODEL_FILE
from ..repository.loader import LoadedVersion

BACKEND = "onnxruntime"
PLATFORM = "onnxruntime_onnx"


def describe(loaded: LoadedVersion) -> pb.ModelConfig:
    """Returns what config.pbtxt says, completed with what holds where it is silent."""
    settled = loaded.config
    config = pb.ModelConfig()
    if settled.written is not None:
        config.CopyFrom(settled.written)
    config.name, config.backend, config.platform = settled.name, BACKEND, PLATFORM
    config.max_batch_size = settled.batching.max_batch_size
    config.default_model_filename = config.default_model_filename or DEFAULT_MODEL_FILE
    if config.version_policy.WhichOneof("policy_choice") is None:
        config.version_policy.latest.num_versions = 1
    inputs = _inputs(settled.inputs, config)
    outputs = _outputs(settled.outputs, config)
    del config.input[:], config.output[:]
    config.input.extend(inputs)
    config.output.extend(outputs)
    _complete_scheduling(config, loaded)
    return config


def _inputs(specs: Sequence[TensorSpec], config: pb.ModelConfig) -> list[pb.ModelInput]:
    written = {entry.name: entry for entry in config.input}
    entries = []
    for spec in specs:
        entry = pb.ModelInput()
        entry.CopyFrom(written.get(spec.name, entry))
        _fill(entry, spec, config.max_batch_size)
        entries.append(entry)
    return entries


def _outputs(specs: Sequence[TensorSpec], config: pb.ModelConfig) -> list[pb.ModelOutput]:
    written = {entry.name: entry for entry in config.output}
    entries = []
    for spec in specs:
        entry = pb.ModelOutput()
        entry.CopyFrom(written.get(spec.name, entry))
        _fill(entry, spec, config.max_batch_size)
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


def _complete_scheduling(config: pb.ModelConfig, loaded: LoadedVersion) -> None:
    policy = loaded.config.batching
    if policy.merge:
        config.dynamic_batching.SetInParent()
        # In Triton a queue without a size has no bound; here it has the setting's.
        config.dynamic_batching.default_queue_policy.max_queue_size = policy.queue.max_queue_size
    if not config.instance_group:
        on_gpu = loaded.provider == CUDA
        kind = pb.ModelInstanceGroup.KIND_GPU if on_gpu else pb.ModelInstanceGroup.KIND_CPU
        gpus = [loaded.in_use.device_id or 0] if on_gpu else []
        config.instance_group.add(name=f"{config.name}_0", count=1, kind=kind, gpus=gpus)
