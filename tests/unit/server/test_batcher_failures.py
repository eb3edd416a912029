"""A failing session, thread or caller affects its own batch only."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from pixelserve_server.engine.instance import Instance
from pixelserve_server.errors import InternalError, Unavailable


def test_a_batch_that_fails_is_computed_request_by_request(bench: Callable[..., Any]) -> None:
    """Timeline: 1. a batch runs; 2. two requests merge into the next, which fails on one of them; 3. each is computed
    by itself, and only that one fails; 4. a third runs as ever."""
    it = bench()
    it.occupy()
    good, bad = it.submit(1), it.submit(2)
    trouble = RuntimeError("secret: out of memory at 0x1234")

    def fail_on_two(x: Any) -> Any:
        if (x == 2).any():
            raise trouble
        return {"y": x * 10}

    it.session.let_go(1)
    assert it.session.wait_until_running()
    it.session.outcome = fail_on_two
    after = it.submit(3)
    it.finish()
    error = bad.answer()
    assert type(error) is InternalError
    assert "secret" not in str(error)
    assert (good.rows(), after.rows()) == ([10], [30])
    assert it.failures == [trouble]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda x: x[:1], id="too few rows"),
        pytest.param(lambda x: np.concatenate([x, x]), id="too many rows"),
        pytest.param(lambda x: x.sum(), id="no rows at all"),
    ],
)
def test_outputs_that_cannot_be_taken_apart_end_merging_and_fail_no_request(
    bench: Callable[..., Any], spoil: Callable[[Any], Any]
) -> None:
    """Timeline: 1. two requests meet in a run whose outputs do not have its rows; 2. each is computed by itself and
    gets all of its own outputs; 3. two that wait together later do not meet."""
    reasons: list[str] = []
    it = bench(batcher={"on_unmerged": reasons.append})
    it.occupy()
    mates = [it.submit(1), it.submit(2)]
    it.session.let_go(1)
    assert it.session.wait_until_running()
    it.session.outcome = lambda x: {"y": spoil(x)}
    later = [it.submit(3), it.submit(4)]
    it.finish()
    for value, each in zip((1, 2, 3, 4), [*mates, *later], strict=True):
        np.testing.assert_array_equal(each.answer().outputs["y"], spoil(np.array([[value]])))
    assert it.failures == []
    assert [(len(record.arrived_ns), record.failed) for record in it.observer.batches] == [(1, False)] * 5
    (reason,) = reasons
    assert reason.startswith("output y has shape ")
    assert (it.batcher.merges, it.batcher.row_fault) == (False, reason)


def test_a_caller_that_cannot_be_answered_strands_no_other(bench: Callable[..., Any]) -> None:
    it = bench()
    it.occupy()
    trouble = ConnectionError("gone")

    def refuse(_: object) -> None:
        raise trouble

    it.submit(1, on_done=refuse)
    it.submit(2, deadline_s=time.monotonic(), on_done=refuse)
    mate = it.submit(3)
    it.session.let_go()
    assert mate.rows() == [30]
    assert it.submit(4).rows() == [40]
    assert it.failures == [trouble, trouble]


def test_the_observer_receives_a_failed_run(bench: Callable[..., Any]) -> None:
    it = bench()

    def fail(_: Any) -> Any:
        raise RuntimeError

    it.session.outcome = fail
    it.occupy()
    it.finish()
    assert [(record.failed, len(record.arrived_ns)) for record in it.observer.batches] == [(True, 1)]


class Poisonable:
    """Multiplies by ten, and fails while it is broken, or on a row of 666 whatever its state."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.runs: list[list[int]] = []

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        self.runs.append(inputs["x"][:, 0].tolist())
        if self.broken or (inputs["x"] == 666).any():
            raise RuntimeError("secret: poisoned")
        return {"y": inputs["x"] * 10}

    def check(self) -> None:
        """Computes a sample on which a session that works does not fail."""
        self.run({"x": np.zeros((1, 1), np.int64)})


def repairable(session: Poisonable, rebuild: Callable[[], Poisonable]) -> Instance[Any]:
    return Instance(session, check=Poisonable.check, rebuild=rebuild)


def fail_three_times(it: Any) -> None:
    """Has a session fail on three requests in a row, one by one."""
    assert [type(it.submit(666).answer()) for _ in range(3)] == [InternalError] * 3


def test_a_session_that_keeps_failing_is_rebuilt_once(bench: Callable[..., Any]) -> None:
    """Timeline: 1. a session breaks; 2. the third failure in a row has it checked, and replaced; 3. the next request is
    computed by its successor."""
    session, successor = Poisonable(), Poisonable()
    rebuilt: list[Poisonable] = []
    it = bench(instances=[repairable(session, lambda: rebuilt.append(successor) or successor)])
    assert it.submit(1).rows() == [10]
    session.broken = True
    for value in (2, 3, 4):
        assert isinstance(it.submit(value).answer(), InternalError)
    assert it.submit(5).rows() == [50]
    assert it.observer.next_repair() == "a session was rebuilt"
    assert rebuilt == [successor]
    assert session.runs == [[1], [2], [3], [4], [0]]
    assert successor.runs == [[0], [5]]
    assert it.batcher.broken == ""


def test_requests_on_which_any_session_fails_do_not_have_it_rebuilt(bench: Callable[..., Any]) -> None:
    def rebuild() -> Poisonable:
        raise AssertionError("it computes its sample: nothing is wrong with it")

    session = Poisonable()
    it = bench(instances=[repairable(session, rebuild)])
    for _ in range(3):
        fail_three_times(it)
    assert it.submit(1).rows() == [10]
    assert session.runs.count([0]) == 3


def test_failures_with_an_answer_between_them_are_not_held_against_a_session(bench: Callable[..., Any]) -> None:
    session = Poisonable()
    it = bench(instances=[repairable(session, Poisonable)])
    for _ in range(3):
        for value in (666, 666, 1):
            it.submit(value).answer()
    it.finish()
    assert [0] not in session.runs


def test_a_model_whose_rebuilt_session_fails_too_refuses_what_waits_and_what_comes(
    bench: Callable[..., Any], held_session: Callable[[], Any]
) -> None:
    """Timeline: 1. a session fails twice, and a third time while two requests wait; 2. its successor fails as well; 3.
    those that wait are told so, and so is the next one."""
    told: list[str] = []
    session = held_session()
    session.outcome = lambda x: {}["not there"]
    instance = Instance(session, check=lambda session: {}["nor there"], rebuild=lambda: Poisonable(broken=True))
    it = bench(1, instances=[instance], batcher={"on_broken": lambda: told.append("broken")})
    session.let_go(2)
    assert [type(it.submit(1).answer()) for _ in range(2)] == [InternalError] * 2
    failing = it.submit(1)
    for _ in range(3):
        assert session.wait_until_running()
    waiting = [it.submit(2), it.submit(3)]
    session.let_go()
    for each in waiting:
        error = each.answer()
        assert isinstance(error, Unavailable)
        assert "m version 1 is not ready: its session failed, and failed again" in str(error)
    assert isinstance(failing.answer(), InternalError)
    with pytest.raises(Unavailable, match="load the model again"):
        it.submit(4)
    assert it.batcher.broken
    it.finish()
    assert told == ["broken"]
    assert [type(error) for error in it.observer.dropped] == [Unavailable] * 2
    assert len(session.runs) == 3


def test_a_session_that_cannot_be_rebuilt_breaks_the_model(bench: Callable[..., Any]) -> None:
    def rebuild() -> Poisonable:
        raise FileNotFoundError("model.onnx is gone")

    session = Poisonable(broken=True)
    it = bench(instances=[repairable(session, rebuild)])
    fail_three_times(it)
    it.finish()
    assert "model.onnx is gone" in it.batcher.broken
    assert it.batcher.waiting == 0


def test_the_other_instance_goes_on_where_one_is_given_up(
    bench: Callable[..., Any], held_session: Callable[[], Any]
) -> None:
    """Timeline: 1. both instances run; 2. the good one is held, so that the bad one gets all that follows, and fails
    three times; 3. it is given up, and what comes next waits for the good one."""
    bad, good = held_session(), held_session()
    bad.outcome = lambda x: {}["not there"]
    instances = [Instance(bad, check=lambda session: {}["nor there"]), Instance(good)]
    it = bench(1, instances=instances)
    first = [it.submit(1), it.submit(2)]
    assert bad.wait_until_running()
    assert good.wait_until_running()
    bad.let_go()
    assert [type(it.submit(3).answer()) for _ in range(2)] == [InternalError] * 2
    waiting = it.submit(4)
    good.let_go()
    assert waiting.rows() == [40]
    assert sorted(type(each.answer()) is InternalError for each in first) == [False, True]
    assert it.submit(5).rows() == [50]
    assert good.runs[1:] == [[4], [5]]
    assert it.batcher.broken == ""


def test_a_session_that_would_end_its_thread_costs_its_run_only(bench: Callable[..., Any]) -> None:
    """Timeline: 1. a batch runs and two requests wait; 2. in the next run the session raises what ends threads; 3. the
    request after these is computed."""
    it = bench()
    it.occupy()
    mates = [it.submit(1), it.submit(2)]

    def die(x: Any) -> Any:
        if 1 in x:
            raise SystemExit("secret")
        return {"y": x * 10}

    it.session.outcome = die
    it.session.let_go()
    errors = [each.answer() for each in mates]
    assert [type(error) for error in errors] == [InternalError, InternalError]
    assert all("secret" not in str(error) for error in errors)
    assert it.observer.next_repair() == "a worker was restarted"
    assert it.submit(3).rows() == [30]
    assert it.session.runs == [[-1], [1, 2], [3]]
    # CUDA graphs belong to the thread that captured them.
    assert it.session.threads[2] is it.session.threads[1]
    assert {type(failure) for failure in it.failures} == {SystemExit}


def test_a_session_that_would_end_its_thread_does_not_keep_a_drain(bench: Callable[..., Any]) -> None:
    it = bench(1)

    def die(_: Any) -> Any:
        raise SystemExit

    it.session.outcome = die
    sent = [it.occupy(), it.submit(1), it.submit(2)]
    assert not it.batcher.drain(0)
    it.finish()
    assert [type(each.answer()) for each in sent] == [InternalError] * 3
    assert [it.observer.next_repair() for _ in sent] == ["a worker was restarted"] * 3


def test_an_observer_that_fails_costs_no_answer(bench: Callable[..., Any]) -> None:
    it = bench(1)
    trouble = KeyError("a metric that is not there")

    def fail(_: object) -> None:
        raise trouble

    it.observer.on_batch = fail
    sent = [it.occupy(), it.submit(1), it.submit(2)]
    it.finish()
    assert [each.rows() for each in sent] == [[-10], [10], [20]]
    assert it.failures == [trouble] * 3
    # Not even a thread.
    assert it.observer.repairs.empty()


@pytest.mark.parametrize("end", [RuntimeError, SystemExit], ids=lambda error: error.__name__)
def test_a_check_that_ends_in_any_way_costs_no_answer(bench: Callable[..., Any], end: type[BaseException]) -> None:
    def check(_: object) -> None:
        raise end

    it = bench(instances=[Instance(Poisonable(broken=True), check=check, rebuild=Poisonable)])
    fail_three_times(it)
    it.finish()
    assert it.batcher.broken
