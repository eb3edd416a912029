"""Batching policies: when requests wait, how long, and when they are merged."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class QueuePolicy:
    """How the requests of one priority level wait (Triton's ModelQueuePolicy)."""

    max_queue_size: int
    """Maximum waiting requests of this level."""
    default_timeout_s: float = 0.0
    """Maximum wait in seconds; 0: only the request's own limit."""
    timeout_action: Literal["reject", "delay"] = "reject"
    """What happens after that: refuse the request, or move it behind all others of its level."""
    allow_timeout_override: bool = False
    """Whether a request's own timeout may shorten `default_timeout_s`; without a default it always applies."""


@dataclass(frozen=True)
class BatchingPolicy:
    """When requests are merged into one run."""

    max_batch_size: int
    """Maximum rows (images) in a run; 0: the model has no batch dimension, so each request is a run."""
    merge: bool
    """Whether requests are merged; False: every request is its own run."""
    queue: QueuePolicy
    """How requests wait, at priority levels not in `levels`."""
    max_queue_delay_s: float = 0.0
    """Seconds that the oldest request may wait for others; 0: run at once with those present."""
    preferred_batch_sizes: tuple[int, ...] = ()
    """Preferred batch sizes, ascending; empty: as many rows as may run together."""
    priority_levels: int = 1
    """Number of levels; level 1 is served first."""
    default_priority: int = 1
    """The level of requests without a valid priority."""
    levels: dict[int, QueuePolicy] = field(default_factory=dict)
    """The levels that differ from `queue`."""
    preserve_ordering: bool = False
    """Whether answers keep the order of their requests when several sessions compute."""
    buckets: tuple[int, ...] = ()
    """Batch sizes to pad runs to, ascending; empty: no padding."""
    limit_batches: bool = False
    """Whether to limit batches to the smallest size that reached about the best measured throughput."""
    tuned_limit: int = 0
    """Maximum rows of merged requests, measured beforehand; 0: unknown, so it is measured at load."""
    shed_delay_s: float = 0.0
    """Maximum wait in a standing queue, in seconds; 0: no limit."""
    target_p99_s: float = 0.0
    """Latency that 99 of 100 accepted requests keep, in seconds, from arrival to answer; 0: no target."""
    run_on_arrival: bool = True
    """Whether a lone request may be computed on the thread that received it."""

    @property
    def limits_batches(self) -> bool:
        """Whether measured run times limit the batch size; sizes set in config.pbtxt take precedence."""
        return self.limit_batches and not self.preferred_batch_sizes

    def limit(self, best_size: int) -> int:
        """Returns the maximum rows to merge; a single request may have more, up to `max_batch_size`.

        Args:
            best_size: the best measured batch size; 0: not measured.
        """
        best_size = self.tuned_limit or best_size
        if not self.limits_batches or not best_size:
            return self.max_batch_size
        return min(best_size, self.max_batch_size)

    def level_of(self, priority: int) -> int:
        """Returns the level of a request's priority."""
        return priority if 1 <= priority <= self.priority_levels else self.default_priority

    def queue_of(self, level: int) -> QueuePolicy:
        """Returns the queue policy of a level."""
        return self.levels.get(level, self.queue)

    def bucket(self, rows: int) -> int:
        """Returns the padded size of a run of `rows` rows."""
        for size in self.buckets:
            if size >= rows:
                return size
        return rows
