"""The batcher's promises, for any requests in any order: hypothesis makes them up, a gated fake session
runs them, on a fake clock."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelserve_server.engine.batcher import Batcher
from pixelserve_server.engine.instance import Instance
from pixelserve_server.engine.policy import BatchingPolicy, QueuePolicy
from pixelserve_server.engine.request import Answer, Request
from pixelserve_server.engine.run import BatchRecord
from pixelserve_server.engine.tensors import Array
from pixelserve_server.errors import Cancelled, DeadlineExceeded, InternalError, QueueFull, RequestError

POISON = -1.0
OPENED_S = 50.0


@dataclass(frozen=True)
class Plan:
    """A request that hypothesis made up."""

    rows: int
    width: int
    poisoned: bool
    """Whether the session fails on it, and so on its whole batch."""
    leaves: bool
    """Whether its caller leaves while it waits."""
    deadline_s: float | None
    """On the fake clock, which stands at `OPENED_S` when the session is free for it."""

    @property
    def runs(self) -> bool:
        return not self.leaves and (self.deadline_s is None or self.deadline_s > OPENED_S)


plans = st.builds(
    Plan,
    rows=st.integers(1, 8),
    width=st.sampled_from([2, 3]),
    poisoned=st.sampled_from([False] * 7 + [True]),
    leaves=st.sampled_from([False, False, False, True]),
    deadline_s=st.none() | st.none() | st.floats(0, 100),
)
policies = st.builds(
    BatchingPolicy,
    max_batch_size=st.integers(8, 20),
    merge=st.sampled_from([True, True, False]),
    queue=st.builds(QueuePolicy, max_queue_size=st.integers(5, 40)),
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

    def on_dropped(self, error: RequestError, waited_ns: int) -> None:
        self.dropped.append(error)

    def on_worker_restarted(self) -> None:
        raise AssertionError("no thread may die here")

    def on_session_rebuilt(self) -> None:
        raise AssertionError("no session is to be rebuilt here")


def pixels(number: int, plan: Plan) -> Array:
    """Returns rows that no other request has: its number, and each row's own."""
    array = np.full((plan.rows, plan.width), float(number))
    array[:, 0] += np.arange(plan.rows) / 100
    if plan.poisoned:
        array[-1, -1] = POISON
    return array


@settings(max_examples=300, deadline=None)
@given(policy=policies, requests=st.lists(plans, min_size=5, max_size=30))
def test_every_request_gets_one_answer_of_its_own(policy: BatchingPolicy, requests: list[Plan]) -> None:
    """1. A first request holds the session. 2. The others are queued or refused. 3. Some leave, and time passes, beyond
    some deadlines. 4. The gate opens."""
    session, told = GatedSession(), Told()
    now_ns = [0]
    batcher = Batcher("model", [Instance(session)], policy, told, lambda _: "id", clock_ns=lambda: now_ns[0])
    batcher.start()
    answers: dict[int, list[Answer | RequestError]] = {number: [] for number in range(len(requests) + 1)}
    first = {"x": pixels(0, Plan(1, 2, False, False, None))}
    batcher.submit(Request(first, 1, answers[0].append, arrived_ns=0))
    session.entered.wait()
    queued: dict[int, Request] = {}
    for number, plan in enumerate(requests, start=1):
        rows = {"x": pixels(number, plan)}
        request = Request(rows, plan.rows, answers[number].append, plan.deadline_s, arrived_ns=0)
        try:
            batcher.submit(request)
            queued[number] = request
        except QueueFull:
            assert len(queued) == policy.queue.max_queue_size
    for number, request in queued.items():
        request.cancelled = requests[number - 1].leaves
    now_ns[0] = int(OPENED_S * 1e9)
    session.gate.set()
    assert batcher.drain(30)

    for number, plan in enumerate(requests, start=1):
        check_answer(number, plan, answers[number], is_queued=number in queued)
    check_batches(session.batches, policy)
    ran = [number for number in queued if requests[number - 1].runs]
    assert sum(len(record.request_ns) for record in told.records) == 1 + len(ran)
    # Only poison makes a batch fail: those that cannot run together never meet.
    assert sum(record.failed for record in told.records) == sum((batch == POISON).any() for batch in session.batches)
    assert len(told.dropped) == len(queued) - len(ran)


def check_answer(number: int, plan: Plan, answers: list[Answer | RequestError], *, is_queued: bool) -> None:
    assert len(answers) == is_queued
    if not is_queued:
        return
    answer = answers[0]
    if not plan.runs:
        assert type(answer) is (Cancelled if plan.leaves else DeadlineExceeded)
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
