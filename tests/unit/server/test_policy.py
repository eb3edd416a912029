"""A batching policy's sizes and priorities."""

from typing import Any

import pytest

from pixelserve_server.engine.policy import BatchingPolicy, QueuePolicy

QUEUE = QueuePolicy(10)


def make(max_batch_size: int = 8, **policy: Any) -> BatchingPolicy:
    return BatchingPolicy(max_batch_size, True, QUEUE, **policy)


@pytest.mark.parametrize(
    ("policy", "best_size", "limit"),
    [
        pytest.param(make(limit_batches=True), 4, 4, id="the best size"),
        pytest.param(make(limit_batches=True), 16, 8, id="no more than the model takes"),
        pytest.param(make(limit_batches=True), 0, 8, id="not measured"),
        pytest.param(make(), 4, 8, id="switched off"),
        pytest.param(make(limit_batches=True, preferred_batch_sizes=(2,)), 4, 8, id="sizes chosen by the user"),
        pytest.param(make(0, limit_batches=True), 1, 0, id="no batch dimension"),
    ],
)
def test_merging_stops_at(policy: BatchingPolicy, best_size: int, limit: int) -> None:
    assert policy.limit(best_size) == limit


@pytest.mark.parametrize(("priority", "level"), [(0, 2), (1, 1), (2, 2), (3, 3), (4, 2), (2**63, 2)])
def test_an_unknown_priority_means_the_default(priority: int, level: int) -> None:
    assert make(priority_levels=3, default_priority=2).level_of(priority) == level


def test_a_level_waits_like_the_others_unless_it_has_a_policy_of_its_own() -> None:
    policy = make(priority_levels=2, levels={2: QueuePolicy(1)})
    assert policy.queue_of(1) is QUEUE
    assert policy.queue_of(2) == QueuePolicy(1)


@pytest.mark.parametrize(
    ("buckets", "rows", "padded"),
    [((), 5, 5), ((1, 4, 8), 1, 1), ((1, 4, 8), 2, 4), ((1, 4, 8), 4, 4), ((1, 4, 8), 5, 8), ((1, 4), 5, 5)],
)
def test_a_run_is_padded_to_the_next_bucket(buckets: tuple[int, ...], rows: int, padded: int) -> None:
    assert make(buckets=buckets).bucket(rows) == padded
