"""The batcher's promises, for any requests in any order: hypothesis makes them up, a gated fake session runs them."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelserve_server.engine.batcher import Answer, Batcher, BatchingPolicy, BatchRecord, Request
from pixelserve_server.engine.tensors import Array
from pixelserve_server.errors import Cancelled, DeadlineExceeded, InternalError, QueueFull, RequestError

POISON = -1.0
LONG_AGO_S = 0.0


@dataclass(frozen=True)
class Plan:
    """A request that hypothesis made up."""

    rows: int
    width: int
    poisoned: bool
    """Whether the session fails on it, and so on its whole batch."""
    fate: str
    """wait, leave (cancelled while it waits) or expired (its deadline has passed)."""


plans = st.builds(
    Plan,
    rows=st.integers(1, 8),
    width=st.sampled_from([2, 3]),
    poisoned=st.sampled_from([False] * 7 + [True]),
    fate=st.sampled_from(["wait", "wait", "wait", "leave", "expired"]),
)
policies = st.builds(
    BatchingPolicy,
    max_batch_size=st.integers(8, 20),
    merge=st.booleans(),
    max_queue_size=st.integers(1, 40),
)


class GatedSession:
    """Doubles its input once the gate is open, and fails on poison."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.batches: list[Array] = []

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        self.entered.set()
        self.gate.wait()
        self.batches.append(inputs["x"])
        if (inputs["x"] == POISON).any():
            raise ValueError("poisoned")
        return {"y": inputs["x"] * 2}


@dataclass
class Told:
    """What a batcher tells its observer."""

    records: list[BatchRecord] = field(default_factory=list)
    dropped: list[RequestError] = field(default_factory=list)

    def on_batch(self, record: BatchRecord) -> None:
        self.records.append(record)

    def on_dropped(self, error: RequestError) -> None:
        self.dropped.append(error)


def pixels(number: int, plan: Plan) -> Array:
    """Returns rows that no other request has: its number, and each row's own."""
    array = np.full((plan.rows, plan.width), float(number))
    array[:, 0] += np.arange(plan.rows) / 100
    if plan.poisoned:
        array[-1, -1] = POISON
    return array


@settings(max_examples=150, deadline=None)
@given(policy=policies, requests=st.lists(plans, max_size=30))
def test_every_request_gets_one_answer_of_its_own(policy: BatchingPolicy, requests: list[Plan]) -> None:
    """1. A first request holds the session. 2. The others are queued or refused. 3. Some leave. 4. The gate opens."""
    session, told = GatedSession(), Told()
    batcher = Batcher("model", session, policy, told, lambda _: None)
    batcher.start()
    answers: dict[int, list[Answer | RequestError]] = {number: [] for number in range(len(requests) + 1)}
    batcher.submit(Request({"x": pixels(0, Plan(1, 2, False, "wait"))}, 1, answers[0].append))
    session.entered.wait()
    queued: dict[int, Request] = {}
    for number, plan in enumerate(requests, start=1):
        deadline_s = LONG_AGO_S if plan.fate == "expired" else None
        request = Request({"x": pixels(number, plan)}, plan.rows, answers[number].append, deadline_s)
        try:
            batcher.submit(request)
            queued[number] = request
        except QueueFull:
            assert len(queued) == policy.max_queue_size
    for number, request in queued.items():
        request.cancelled = requests[number - 1].fate == "leave"
    session.gate.set()
    assert batcher.drain(30)

    for number, plan in enumerate(requests, start=1):
        check_answer(number, plan, answers[number], is_queued=number in queued)
    check_batches(session.batches, policy)
    ran = [number for number in queued if requests[number - 1].fate == "wait"]
    assert sum(len(record.request_ns) for record in told.records) == 1 + len(ran)
    assert len(told.dropped) == len(queued) - len(ran)


def check_answer(number: int, plan: Plan, answers: list[Answer | RequestError], *, is_queued: bool) -> None:
    assert len(answers) == is_queued
    if not is_queued:
        return
    answer = answers[0]
    if plan.fate != "wait":
        assert type(answer) is (Cancelled if plan.fate == "leave" else DeadlineExceeded)
    elif plan.poisoned:
        assert type(answer) is InternalError
    elif isinstance(answer, Answer):
        np.testing.assert_array_equal(answer.outputs["y"], pixels(number, plan) * 2)
    else:
        # It shared a batch with a poisoned one.
        assert type(answer) is InternalError


def check_batches(batches: list[Array], policy: BatchingPolicy) -> None:
    for batch in batches:
        assert len(batch) <= policy.max_batch_size
        numbers = np.floor(batch[:, 0]).tolist()
        # Requests lie in the order of their arrival, none of them split.
        assert numbers == sorted(numbers)
        if not policy.merge:
            assert len(set(numbers)) == 1
    seen = [set(np.floor(batch[:, 0]).tolist()) for batch in batches]
    assert sum(map(len, seen)) == len(set().union(*seen))
