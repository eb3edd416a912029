"""When requests wait, for how long, and when they are merged: what config.pbtxt says of batching."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class QueuePolicy:
    """How the requests of one priority level wait (Triton's ModelQueuePolicy)."""

    max_queue_size: int
    """Most requests of this level that may wait."""
    default_timeout_s: float = 0.0
    """Seconds that a request may wait; 0: no limit but its own."""
    timeout_action: Literal["reject", "delay"] = "reject"
    """What becomes of one that has waited longer: it is refused, or goes behind all others of its level."""
    allow_timeout_override: bool = False
    """Whether a request's own timeout may shorten `default_timeout_s`; where there is none, it always holds."""


@dataclass(frozen=True)
class BatchingPolicy:
    """When requests are merged into one run."""

    max_batch_size: int
    """Most rows (images) in a run; 0: the model has no batch dimension, and a request is a run."""
    merge: bool
    """Whether requests are merged at all; False: every request is a run of its own."""
    queue: QueuePolicy
    """How requests wait, at every priority level that `levels` does not name."""
    max_queue_delay_s: float = 0.0
    """Seconds that the oldest request may wait for others; 0: run at once with what is there."""
    preferred_batch_sizes: tuple[int, ...] = ()
    """Sizes to stop at where as many rows wait, rising; empty: as many as may run together."""
    priority_levels: int = 1
    """How many levels there are; 1 is served first."""
    default_priority: int = 1
    """The level of a request that names none, or one that does not exist."""
    levels: dict[int, QueuePolicy] = field(default_factory=dict)
    """The levels that wait in another way than `queue`."""
    preserve_ordering: bool = False
    """Whether answers leave in the order of their requests, where several sessions compute."""
    buckets: tuple[int, ...] = ()
    """Batch sizes, rising, that a run is padded to; empty: it is not padded."""
    limit_batches: bool = False
    """Whether merging stops at the smallest size that was measured to serve about as many rows a second as any."""
    shed_delay_s: float = 0.0
    """Seconds that requests may wait where they have done so for a while; 0: no limit."""
    run_on_arrival: bool = True
    """Whether a request that finds everything idle may be computed on the thread that brought it."""

    @property
    def limits_batches(self) -> bool:
        """Whether measured run times limit the batch size; sizes set in config.pbtxt take precedence."""
        return self.limit_batches and not self.preferred_batch_sizes

    def limit(self, best_size: int) -> int:
        """Returns the most rows that are merged; a single request may have more, up to `max_batch_size`.

        Args:
            best_size: the best batch size by measurement; 0: not measured.
        """
        if not self.limits_batches or not best_size:
            return self.max_batch_size
        return min(best_size, self.max_batch_size)

    def level_of(self, priority: int) -> int:
        """Returns the level at which a request of this priority waits."""
        return priority if 1 <= priority <= self.priority_levels else self.default_priority

    def queue_of(self, level: int) -> QueuePolicy:
        """Returns how the requests of a level wait."""
        return self.levels.get(level, self.queue)

    def bucket(self, rows: int) -> int:
        """Returns the size that a run of `rows` rows is padded to."""
        for size in self.buckets:
            if size >= rows:
                return size
        return rows
