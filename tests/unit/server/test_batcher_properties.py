"""The batcher's promises, for any requests in any order under any policy: hypothesis makes them up, gated fake sessions
run them, on a fake clock."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelserve_server.engine.batcher import Batcher
from pixelserve_server.engine.curve import LatencyCurve
from pixelserve_server.engine.instance import Instance
from pixelserve_server.engine.policy import BatchingPolicy, QueuePolicy
from pixelserve_server.engine.request import Answer, Request
from pixelserve_server.engine.run import BatchRecord
from pixelserve_server.engine.tensors import Array
from pixelserve_server.errors import Cancelled, DeadlineExceeded, InternalError, QueueFull, RequestError

POISON = -1.0
OPENED_S = 50.0
PATIENCE_S = 10
# Four rows take as long as one, and more take as much longer as they are more.
BEST_IS_FOUR = LatencyCurve((1, 4, 20), (10**6, 10**6, 10**7))
# What keeps the sessions busy has numbers from here on.
FIRST = 1000


@dataclass(frozen=True)
class Plan:
    """A request that hypothesis made up."""

    rows: int
    width: int
    poisoned: bool = False
    """Whether the session fails on it, and on every batch that it is in."""
    leaves: bool = False
    """Whether its caller leaves while it waits."""
    deadline_s: float | None = None
    """On the fake clock, which stands at `OPENED_S` when the sessions are free for it."""
    timeout_s: int = 0
    priority: int = 0

    def ends_s(self, queue: QueuePolicy) -> tuple[float, float]:
        """Returns when it is to be dropped, and when it goes behind the others."""
        never, own_s = float("inf"), self.timeout_s or float("inf")
        default_s = queue.default_timeout_s or never
        wait_s = own_s if default_s == never else min(own_s, default_s) if queue.allow_timeout_override else default_s
        deadline_s = never if self.deadline_s is None else self.deadline_s
        return (deadline_s, wait_s) if queue.timeout_action == "delay" else (min(deadline_s, wait_s), never)


plans = st.builds(
    Plan,
    rows=st.integers(1, 2) | st.integers(1, 8),
    width=st.sampled_from([2, 2, 2, 3]),
    poisoned=st.sampled_from([False] * 7 + [True]),
    leaves=st.sampled_from([False, False, False, True]),
    # Far enough from the times at which it matters for the runs' own times not to: test_overload.py is about those.
    deadline_s=st.none() | st.none() | st.sampled_from([0.0, 2.0, 30.0, 48.0, 52.0, 100.0]),
    timeout_s=st.sampled_from([0, 0, 0, 20, 80]),
    priority=st.integers(0, 4),
)
queues = st.builds(
    QueuePolicy,
    max_queue_size=st.integers(2, 20),
    default_timeout_s=st.sampled_from([0.0, 0.0, 30.0, 90.0]),
    timeout_action=st.sampled_from(["reject", "delay"]),
    allow_timeout_override=st.booleans(),
)
policies = st.builds(
    BatchingPolicy,
    max_batch_size=st.integers(8, 20),
    merge=st.sampled_from([True, True, False]),
    queue=queues,
    max_queue_delay_s=st.sampled_from([0.0, 0.0, 10.0, 3600.0]),
    preferred_batch_sizes=st.sampled_from([(), (), (4,), (2, 3, 4, 6)]),
    priority_levels=st.just(3),
    default_priority=st.integers(1, 3),
    levels=st.dictionaries(st.integers(1, 3), queues, max_size=2),
    preserve_ordering=st.booleans(),
    buckets=st.sampled_from([(), (1, 2, 4, 8, 16, 20), (5, 20)]),
    limit_batches=st.booleans(),
)


class GatedSession:
    """Doubles its input once the gate is open, and fails on poison."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.batches: list[Array] = []

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        self.entered.release()
        self.gate.wait()
        self.batches.append(inputs["x"])
        if (inputs["x"] == POISON).any():
            raise ValueError("poisoned")
        return {"y": inputs["x"] * 2}


@dataclass
class Told:
    """A batcher's events."""

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


class HandTimer:
    """A timer that fires on request."""

    def __init__(self) -> None:
        self.ring: Callable[[], object] = lambda: None

    def at(self, when_ns: int, function: Callable[[], object]) -> None:
        self.ring = function


def pixels(number: int, plan: Plan) -> Array:
    """Returns rows that no other request has: its number, and each row's own."""
    array = np.full((plan.rows, plan.width), float(number))
    array[:, 0] += np.arange(plan.rows) / 100
    if plan.poisoned:
        array[-1, -1] = POISON
    return array


class Trial:
    """A batcher under a policy, and everything that it is sent and says."""

    def __init__(self, policy: BatchingPolicy, instances: int, timer: HandTimer | None) -> None:
        self.policy, self.timer = policy, timer
        is_limited = policy.limit_batches and not policy.preferred_batch_sizes
        self.limit = 4 if is_limited else policy.max_batch_size
        self.session, self.told, self.now_ns = GatedSession(), Told(), 0
        self.plans: dict[int, Plan] = {}
        self.accepted: dict[int, Request] = {}
        self.answers: dict[int, list[Answer | RequestError]] = {}
        self.order: list[int] = []
        """Numbers of the requests in the order in which they were answered."""
        self.batcher = Batcher(
            "model",
            [Instance(self.session) for _ in range(instances)],
            policy,
            self.told,
            lambda _: "id",
            curve=BEST_IS_FOUR,
            timer=timer,
            clock_ns=lambda: self.now_ns,
        )
        self.batcher.start()

    def submit(self, number: int, plan: Plan) -> bool:
        request = self._request(number, plan)
        try:
            self.batcher.submit(request)
        except QueueFull:
            return False
        self.accepted[number] = request
        return True

    def submit_all(self, plans: dict[int, Plan]) -> list[bool]:
        requests = {number: self._request(number, plan) for number, plan in plans.items()}
        refused = dict(self.batcher.submit_all(list(requests.values())))
        assert all(type(error) is QueueFull for error in refused.values())
        self.accepted |= {number: request for number, request in requests.items() if request not in refused}
        return [number in self.accepted for number in plans]

    def _request(self, number: int, plan: Plan) -> Request:
        answers = self.answers[number] = []

        def on_done(answer: Answer | RequestError) -> None:
            self.order.append(number)
            answers.append(answer)

        request = Request({"x": pixels(number, plan)}, plan.rows, on_done, plan.deadline_s, arrived_ns=0)
        request.timeout_ns, request.priority = plan.timeout_s * 10**9, plan.priority
        self.plans[number] = plan
        return request

    def rooms(self, plans: dict[int, Plan]) -> list[bool]:
        """Returns for each of these requests whether its level has room for it behind the ones before."""
        waiting = [self.level(number) for number in self.accepted if number < FIRST]
        rooms = []
        for plan in plans.values():
            level = self.policy.level_of(plan.priority)
            rooms.append(waiting.count(level) < self.policy.queue_of(level).max_queue_size)
            waiting += [level] * rooms[-1]
        return rooms

    def level(self, number: int) -> int:
        return self.policy.level_of(self.plans[number].priority)

    def ends_s(self, number: int) -> tuple[float, float]:
        return self.plans[number].ends_s(self.policy.queue_of(self.level(number)))

    def runs(self, number: int) -> bool:
        return not self.plans[number].leaves and self.ends_s(number)[0] > OPENED_S

    def queue(self, *, has_rung: bool) -> list[int]:
        """Returns the requests that are to run, in the order in which they do."""
        late = {number: has_rung and self.ends_s(number)[1] <= OPENED_S for number in self.accepted}
        waiting = [number for number in self.accepted if number < FIRST and self.runs(number)]
        return sorted(waiting, key=lambda number: (self.level(number), late[number], number))

    def expected_batches(self, queue: list[int]) -> list[list[int]]:
        """Returns how a queue is to be cut into batches."""
        policy, batches = self.policy, list[list[int]]()
        has_waited_long = 0 < policy.max_queue_delay_s <= OPENED_S
        while queue:
            size, rows, preferred = 0, 0, 0
            for number in queue if policy.merge else queue[:1]:
                plan = self.plans[number]
                if size and (rows + plan.rows > self.limit or plan.width != self.plans[queue[0]].width):
                    break
                size, rows = size + 1, rows + plan.rows
                preferred = size if rows in policy.preferred_batch_sizes else preferred
            if preferred and not has_waited_long:
                size = preferred
            batches.append(queue[:size])
            queue = queue[size:]
        return batches


@settings(max_examples=400, deadline=None)
@given(
    policy=policies,
    instances=st.sampled_from([1, 1, 2, 3]),
    requests=st.lists(plans, min_size=5, max_size=30),
    has_timer=st.booleans(),
    together=st.sampled_from([1, 1, 4, 30]),
)
def test_every_request_gets_one_answer_of_its_own(
    policy: BatchingPolicy, instances: int, requests: list[Plan], has_timer: bool, together: int
) -> None:
    """1. First requests hold the sessions. 2. The others are queued or refused, one by one or together. 3. Some leave,
    and time passes, beyond some deadlines; where there is a timer, it rings. 4. The gate opens."""
    timer = HandTimer() if has_timer else None
    it = Trial(policy, instances, timer)
    for number in range(FIRST, FIRST + instances):
        # A full batch never waits.
        assert it.submit(number, Plan(policy.max_batch_size, 2))
        assert it.session.entered.acquire(timeout=PATIENCE_S)
    numbered = list(enumerate(requests, start=1))
    for first in range(0, len(numbered), together):
        plans = dict(numbered[first : first + together])
        rooms = it.rooms(plans)
        assert (it.submit_all(plans) if together > 1 else [it.submit(*numbered[first])]) == rooms
    for number, request in it.accepted.items():
        for _ in range(2 * it.plans[number].leaves):
            request.cancel()
    it.now_ns = int(OPENED_S * 1e9)
    if timer is not None:
        timer.ring()
    check_who_is_answered_before_the_gate_opens(it, has_timer=has_timer)
    it.session.gate.set()
    assert it.batcher.drain(PATIENCE_S)

    for number in it.answers:
        check_answer(it, number)
    check_batches(it, it.queue(has_rung=has_timer), is_exact=has_timer or not policy.preferred_batch_sizes)
    check_what_was_told(it, instances)


def check_who_is_answered_before_the_gate_opens(it: Trial, *, has_timer: bool) -> None:
    for number in it.accepted:
        if number < FIRST:
            is_dropped = it.plans[number].leaves or (has_timer and not it.runs(number))
            assert len(it.answers[number]) == is_dropped


def check_answer(it: Trial, number: int) -> None:
    plan, answers = it.plans[number], it.answers[number]
    assert len(answers) == (number in it.accepted)
    if not answers:
        return
    answer = answers[0]
    if number < FIRST and not it.runs(number):
        assert type(answer) is (Cancelled if plan.leaves else DeadlineExceeded)
    elif isinstance(answer, Answer):
        assert not plan.poisoned
        np.testing.assert_array_equal(answer.outputs["y"], pixels(number, plan) * 2)
    else:
        assert plan.poisoned
        assert type(answer) is InternalError


def check_batches(it: Trial, queue: list[int], *, is_exact: bool) -> None:
    batches: dict[int, list[int]] = {}
    failed_together: set[int] = set()
    computed_again: list[int] = []
    for array in it.session.batches:
        rows = array[array.any(axis=1)]
        numbers = list(dict.fromkeys(np.floor(rows[:, 0]).astype(int).tolist()))
        # Whole requests, one behind the other, and zeros up to the bucket.
        assert len(array) == it.policy.bucket(len(rows))
        np.testing.assert_array_equal(rows, np.concatenate([pixels(number, it.plans[number]) for number in numbers]))
        assert len(numbers) == 1 or (it.policy.merge and len(rows) <= it.limit)
        if numbers[0] in failed_together:
            assert len(numbers) == 1
            computed_again += numbers
            continue
        if len(numbers) > 1 and (array == POISON).any():
            failed_together.update(numbers)
        if numbers[0] < FIRST:
            batches[numbers[0]] = numbers
    assert sorted(computed_again) == sorted(failed_together)
    # Several sessions may start in any order, but none takes requests behind those that wait for another.
    in_order = [batches[number] for number in queue if number in batches]
    assert [number for batch in in_order for number in batch] == queue
    if is_exact:
        assert in_order == it.expected_batches(queue)


def check_what_was_told(it: Trial, instances: int) -> None:
    ran = it.queue(has_rung=isinstance(it.timer, HandTimer))
    started = [number for number in it.accepted if number >= FIRST]
    records: Any = it.told.records
    assert sum(len(record.arrived_ns) for record in records) == instances + len(ran)
    assert sum(record.rows for record in records) == sum(it.plans[number].rows for number in [*started, *ran])
    # Only poison makes a request fail: what cannot run together never meets, and what met it is computed again.
    assert sum(record.failed for record in records) == sum(it.plans[number].poisoned for number in ran)
    assert len(it.told.dropped) == len(it.accepted) - instances - len(ran)
    if instances == 1 or it.policy.preserve_ordering:
        answered = [number for number in it.order if number < FIRST and it.runs(number)]
        assert answered == ran
