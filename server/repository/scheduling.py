"""Batching and instances from config.pbtxt (Triton's dynamic_batching and instance_group)."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pixelserve.oip import model_config_pb2 as pb

from ..engine.policy import BatchingPolicy, QueuePolicy
from ..errors import RepositoryError
from .compatibility import TARGET_P99
from .layout import ModelFolder
from .pbtxt import error_at, value_name

# More sessions or levels than any machine has use for; a typing error should not eat its memory. A session of a 0.4 MB
# model takes about 3 MB.
_MAX_INSTANCES = 128
_MAX_LEVELS = 1000
_KINDS = (pb.ModelInstanceGroup.KIND_CPU, pb.ModelInstanceGroup.KIND_GPU, pb.ModelInstanceGroup.KIND_AUTO)


@dataclass(frozen=True)
class Placement:
    """Where one session of a model computes."""

    device: Literal["auto", "cpu", "gpu"]
    """auto: on a GPU if there is one."""
    device_id: int | None = None
    """The GPU's number; None: the one of the settings."""


def read_batching(
    folder: ModelFolder, config: pb.ModelConfig, default_queue_size: int, default_target_s: float = 0.0
) -> BatchingPolicy:
    """Returns how a model's requests are merged, and the latency that they keep.

    Raises:
        RepositoryError: a value is out of range.
    """
    for problem in batching_problems(folder, config):
        raise problem
    dynamic = config.dynamic_batching
    # Without levels a default has no meaning, and Triton does not read it.
    default_level = int(dynamic.default_priority_level) if dynamic.priority_levels else 1
    return BatchingPolicy(
        max_batch_size=config.max_batch_size,
        merge=config.HasField("dynamic_batching") and config.max_batch_size > 0,
        queue=_queue(dynamic.default_queue_policy, default_queue_size),
        max_queue_delay_s=dynamic.max_queue_delay_microseconds / 1e6,
        preferred_batch_sizes=tuple(sorted(set(dynamic.preferred_batch_size))),
        priority_levels=int(dynamic.priority_levels) or 1,
        default_priority=default_level,
        levels={
            int(level): _queue(policy, default_queue_size) for level, policy in dynamic.priority_queue_policy.items()
        },
        preserve_ordering=dynamic.preserve_ordering,
        target_p99_s=_target_ms(config) / 1e3 if TARGET_P99 in config.parameters else default_target_s,
    )


def _target_ms(config: pb.ModelConfig) -> float:
    """Returns the parameter `target_p99_ms`; NaN if it is not a number."""
    try:
        return float(config.parameters[TARGET_P99].string_value)
    except ValueError:
        return math.nan


def batching_problems(folder: ModelFolder, config: pb.ModelConfig) -> Iterator[RepositoryError]:
    """Yields each value of dynamic_batching, and a latency target, that is out of range."""
    dynamic, path, rows = config.dynamic_batching, folder.config_file, config.max_batch_size
    levels = int(dynamic.priority_levels) or 1
    if levels > _MAX_LEVELS:
        yield _wrong(path, "priority_levels", f"is {levels}; expected 1 to {_MAX_LEVELS}", _MAX_LEVELS)
    default = dynamic.default_priority_level
    if dynamic.priority_levels and not 1 <= default <= levels:
        yield _wrong(path, "default_priority_level", f"is {default}; expected 1 to {levels} (priority_levels)", 1)
    for level in sorted(dynamic.priority_queue_policy):
        if not 1 <= level <= levels:
            yield _wrong(path, "priority_queue_policy", f"has level [{level}]; expected 1 to {levels}")
    sizes = sorted(set(dynamic.preferred_batch_size))
    good = [size for size in sizes if 1 <= size <= rows]
    if sizes != good:
        problem = f"is {sizes}; expected sizes of 1 to {rows} (max_batch_size)"
        yield _wrong(path, "preferred_batch_size", problem, f"[ {', '.join(map(str, good))} ]" if good else "")
    if TARGET_P99 in config.parameters and not 0 <= _target_ms(config) < math.inf:
        value = config.parameters[TARGET_P99].string_value
        problem = f'parameter {TARGET_P99} is "{value}"; expected milliseconds, such as 50, or 0 for no target'
        yield error_at(path, f'parameters["{TARGET_P99}"]', problem)


def _wrong(path: Path, field: str, problem: str, write: object = "") -> RepositoryError:
    place = f"dynamic_batching.{field}"
    return error_at(path, place, f"{field} {problem}", f"{field}: {write}" if write else "")


def read_instances(folder: ModelFolder, config: pb.ModelConfig | None) -> tuple[Placement, ...]:
    """Returns the devices of a model's sessions; by default one session on any device.

    Raises:
        RepositoryError: a group is not supported.
    """
    groups = config.instance_group if config else ()
    for problem in instance_problems(folder, groups):
        raise problem
    return tuple(placement for group in groups for placement in _placements(group)) or (Placement("auto"),)


def instance_problems(folder: ModelFolder, groups: Iterable[pb.ModelInstanceGroup]) -> Iterator[RepositoryError]:
    """Yields each unsupported value of the instance groups."""
    total = 0
    for number, group in enumerate(groups):
        place, gpus = f"instance_group[{number}]", list(group.gpus)
        if not 0 <= group.count <= _MAX_INSTANCES:
            problem = f"instance_group count is {group.count}; expected 1 or more, and at most {_MAX_INSTANCES}"
            write = f"count: {_MAX_INSTANCES if group.count > 0 else 1}"
            yield error_at(folder.config_file, f"{place}.count", problem, write)
            continue
        total += (group.count or 1) * (len(gpus) or 1)
        if total > _MAX_INSTANCES:
            problem = f"instance_group makes {total} or more instances; expected at most {_MAX_INSTANCES}"
            yield error_at(folder.config_file, f"{place}.count", problem)
        if group.kind == pb.ModelInstanceGroup.KIND_CPU and gpus:
            problem = f"instance_group is KIND_CPU and names GPUs {gpus}; remove one of the two"
            yield error_at(folder.config_file, f"{place}.gpus", problem)
        if group.kind not in _KINDS:
            kind = value_name(pb.ModelInstanceGroup.Kind, group.kind)
            problem = f"instance_group kind {kind} is not served; expected KIND_CPU, KIND_GPU or KIND_AUTO"
            yield error_at(folder.config_file, f"{place}.kind", problem, "kind: KIND_AUTO")


def _placements(group: pb.ModelInstanceGroup) -> Sequence[Placement]:
    count, gpus = group.count or 1, list(group.gpus)
    if group.kind == pb.ModelInstanceGroup.KIND_CPU:
        return [Placement("cpu")] * count
    # Triton's meaning: with GPUs named, KIND_AUTO is for these.
    if group.kind == pb.ModelInstanceGroup.KIND_GPU or gpus:
        chosen: list[int | None] = [*gpus] or [None]
        return [Placement("gpu", gpu) for gpu in chosen for _ in range(count)]
    return [Placement("auto")] * count


def _queue(policy: pb.ModelQueuePolicy, default_size: int) -> QueuePolicy:
    return QueuePolicy(
        max_queue_size=policy.max_queue_size or default_size,
        default_timeout_s=policy.default_timeout_microseconds / 1e6,
        timeout_action="delay" if policy.timeout_action == pb.ModelQueuePolicy.DELAY else "reject",
        allow_timeout_override=policy.allow_timeout_override,
    )
