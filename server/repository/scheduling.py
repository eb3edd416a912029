"""What config.pbtxt says of batching and instances (Triton's dynamic_batching and instance_group)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pixelserve.oip import model_config_pb2 as pb

from ..engine.policy import BatchingPolicy, QueuePolicy
from ..errors import RepositoryError
from .layout import ModelFolder

# More sessions or levels than any machine has use for; a typing error should not eat its memory.
_MAX_INSTANCES = 1024
_MAX_LEVELS = 1000


@dataclass(frozen=True)
class Placement:
    """Where one session of a model computes."""

    device: Literal["auto", "cpu", "cuda"]
    """auto: on a GPU where there is one."""
    device_id: int | None = None
    """The GPU's number; None: the one that the settings name."""


def read_batching(folder: ModelFolder, config: pb.ModelConfig, default_queue_size: int) -> BatchingPolicy:
    """Returns when a model's requests are merged.

    Raises:
        RepositoryError: a value is out of range.
    """
    dynamic = config.dynamic_batching
    levels = int(dynamic.priority_levels) or 1
    # Without levels a default has no meaning, and Triton does not read it.
    default_level = int(dynamic.default_priority_level) if dynamic.priority_levels else 1
    preferred = tuple(sorted(set(dynamic.preferred_batch_size)))
    _require(folder, 1 <= levels <= _MAX_LEVELS, f"priority_levels is {levels}; expected 1 to {_MAX_LEVELS}")
    _require(
        folder,
        not dynamic.priority_levels or 1 <= dynamic.default_priority_level <= levels,
        f"default_priority_level is {dynamic.default_priority_level}; expected 1 to {levels} (priority_levels)",
    )
    unknown = [level for level in dynamic.priority_queue_policy if not 1 <= level <= levels]
    _require(folder, not unknown, f"priority_queue_policy has level {unknown[:1]}; expected 1 to {levels}")
    _require(
        folder,
        all(1 <= size <= config.max_batch_size for size in preferred),
        f"preferred_batch_size is {list(preferred)}; expected sizes of 1 to {config.max_batch_size} (max_batch_size)",
    )
    return BatchingPolicy(
        max_batch_size=config.max_batch_size,
        merge=config.HasField("dynamic_batching") and config.max_batch_size > 0,
        queue=_queue(dynamic.default_queue_policy, default_queue_size),
        max_queue_delay_s=dynamic.max_queue_delay_microseconds / 1e6,
        preferred_batch_sizes=preferred,
        priority_levels=levels,
        default_priority=default_level,
        levels={
            int(level): _queue(policy, default_queue_size) for level, policy in dynamic.priority_queue_policy.items()
        },
        preserve_ordering=dynamic.preserve_ordering,
    )


def read_instances(folder: ModelFolder, config: pb.ModelConfig | None) -> tuple[Placement, ...]:
    """Returns where a model's sessions compute: one on any device where config.pbtxt does not say.

    Raises:
        RepositoryError: a group asks for what is not served.
    """
    placements: list[Placement] = []
    for group in config.instance_group if config else ():
        placements += _placements(folder, group)
        _require(
            folder,
            len(placements) <= _MAX_INSTANCES,
            f"instance_group makes {len(placements)} or more instances; expected at most {_MAX_INSTANCES}",
        )
    return tuple(placements) or (Placement("auto"),)


def _placements(folder: ModelFolder, group: pb.ModelInstanceGroup) -> Sequence[Placement]:
    count = group.count or 1
    _require(folder, 1 <= count <= _MAX_INSTANCES, f"instance_group count is {group.count}; expected 1 or more")
    _require(folder, not group.passive, "a passive instance_group is not served; remove it")
    gpus = list(group.gpus)
    match group.kind:
        case pb.ModelInstanceGroup.KIND_CPU:
            _require(folder, not gpus, f"instance_group is KIND_CPU and names GPUs {gpus}; remove one of the two")
            return [Placement("cpu")] * count
        case pb.ModelInstanceGroup.KIND_GPU:
            chosen: list[int | None] = [*gpus] or [None]
            return [Placement("cuda", gpu) for gpu in chosen for _ in range(count)]
        case pb.ModelInstanceGroup.KIND_AUTO:
            # Triton's meaning: with GPUs named, it is for these.
            if gpus:
                return [Placement("cuda", gpu) for gpu in gpus for _ in range(count)]
            return [Placement("auto")] * count
    raise RepositoryError(
        f"{folder.config_file}: instance_group kind KIND_MODEL is not served; expected KIND_CPU, KIND_GPU or KIND_AUTO"
    )


def _queue(policy: pb.ModelQueuePolicy, default_size: int) -> QueuePolicy:
    return QueuePolicy(
        max_queue_size=policy.max_queue_size or default_size,
        default_timeout_s=policy.default_timeout_microseconds / 1e6,
        timeout_action="delay" if policy.timeout_action == pb.ModelQueuePolicy.DELAY else "reject",
        allow_timeout_override=policy.allow_timeout_override,
    )


def _require(folder: ModelFolder, holds: bool, problem: str) -> None:
    if not holds:
        raise RepositoryError(f"{folder.config_file}: {problem}")
