"""A version's sessions are warm before it serves, within the necessary memory."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pixelserve_server.engine.curve import UNMEASURED, LatencyCurve
from pixelserve_server.engine.measuring import WarmupBudget
from pixelserve_server.engine.memory import resident_bytes
from pixelserve_server.engine.policy import BatchingPolicy, QueuePolicy
from pixelserve_server.engine.providers import SessionOptions
from pixelserve_server.engine.providers.binding import sample
from pixelserve_server.engine.providers.cuda import Cuda
from pixelserve_server.engine.session import Session
from pixelserve_server.errors import RepositoryError
from pixelserve_server.repository.warming import Warming

PLENTY = WarmupBudget(seconds=3600, memory_bytes=1 << 50)
NOTHING = WarmupBudget(seconds=0, memory_bytes=0)
MIB = 1 << 20


class Recorded(Session):
    """A session that keeps the rows of its runs."""

    def __init__(self, model: Path) -> None:
        super().__init__(model, SessionOptions(device="cpu", intra_op_threads=1))
        self.rows: list[int] = []

    def run(self, inputs: Any) -> Any:
        self.rows.append(len(next(iter(inputs.values()))))
        return super().run(inputs)

    def release_memory(self, inputs: Any) -> None:
        self.rows.append(len(next(iter(inputs.values()))))
        super().release_memory(inputs)


def warming(model: Path, session: Session, *, max_batch_size: int = 8, **changes: Any) -> Warming:
    policy = BatchingPolicy(max_batch_size, merge=True, queue=QueuePolicy(8), buckets=changes.pop("buckets", ()))
    settings: dict[str, Any] = {"inputs": partial(sample, session.inputs), "budget": PLENTY} | changes
    return Warming(model, policy, **settings)


@pytest.fixture
def model(tmp_path: Path, model_writer: Callable[..., Path]) -> Path:
    return model_writer(tmp_path / "doubler" / "1" / "model.onnx")


def test_the_first_session_is_measured_and_the_others_are_warmed(model: Path) -> None:
    sessions = [Recorded(model) for _ in range(3)]
    warm = warming(model, sessions[0]).warm
    curves = [warm(session) for session in sessions]
    assert curves[0].sizes[:2] == (1, 2)
    assert set(sessions[0].rows) == set(curves[0].sizes)
    assert curves[1] is curves[2] is curves[0]
    assert [set(session.rows) for session in sessions[1:]] == [{1}, {1}]


def test_sessions_that_are_warmed_at_the_same_time_are_measured_once(model: Path) -> None:
    """Timeline: 1. the first session's first run begins; 2. the second session is to be warmed, and waits; 3. that run
    ends, and the first session is measured."""
    first, second = (Recorded(model) for _ in range(2))
    begun, disturbed = threading.Event(), threading.Event()
    warm = warming(model, first).warm
    run_first, run_second = first.run, second.run

    def slow(inputs: Any) -> Any:
        if not begun.is_set():
            begun.set()
            disturbed.wait(0.1)
        return run_first(inputs)

    def disturb(inputs: Any) -> Any:
        disturbed.set()
        return run_second(inputs)

    first.run, second.run = slow, disturb  # type: ignore[method-assign]
    threads = [threading.Thread(target=warm, args=(session,)) for session in (first, second)]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert not disturbed.is_set()
    assert set(second.rows) == {1} < set(first.rows)


def test_every_size_is_warmed_in_every_session_whose_new_shapes_are_slow(model: Path) -> None:
    """A session on the CPU that says it computes on CUDA."""
    sessions = [Recorded(model) for _ in range(2)]
    warm = warming(model, sessions[0], buckets=(1, 4, 8), budget=NOTHING).warm
    for session in sessions:
        session.provider = Cuda.name
        assert warm(session).sizes == (1, 4, 8)
        assert set(session.rows) == {1, 4, 8}


def test_buckets_on_the_cpu_are_measured_for_as_long_as_the_budget_lasts(model: Path) -> None:
    session = Recorded(model)
    assert warming(model, session, buckets=(4, 8), budget=NOTHING).warm(session).sizes == (4,)
    assert set(session.rows) == {4}


def test_warming_uses_the_inputs_that_it_is_given(model: Path) -> None:
    session = Recorded(model)
    asked: list[int] = []

    def inputs(rows: int) -> Any:
        asked.append(rows)
        return sample(session.inputs, rows)

    wanted = warming(model, session, inputs=inputs)
    wanted.warm(session)
    wanted.check(session)
    assert set(asked) == set(session.rows)


def test_a_model_without_known_inputs_is_neither_run_nor_measured(model: Path) -> None:
    session = Recorded(model)
    unknown = warming(model, session, inputs=lambda rows: None)
    assert unknown.warm(session) == UNMEASURED
    unknown.check(session)
    assert session.rows == []


def test_sizes_are_announced_before_they_are_run(model: Path) -> None:
    session = Recorded(model)
    announced: list[tuple[int, bool]] = []
    curve = warming(model, session, on_size=lambda rows: announced.append((rows, rows in session.rows))).warm(session)
    assert announced == [(rows, False) for rows in curve.sizes]


def test_a_model_that_cannot_compute_a_batch_is_refused(tmp_path: Path, graph_writer: Callable[..., Path]) -> None:
    tensor = ("FLOAT", ["N", 2])
    model = graph_writer(tmp_path / "square" / "1" / "model.onnx", {"x": tensor}, {"y": tensor}, ("MatMul", "x x", "y"))
    session = Recorded(model)
    with pytest.raises(RepositoryError, match=r"cannot compute a batch of 1 to 8 rows: .*smaller max_batch_size"):
        warming(model, session).warm(session)


def test_a_session_holds_the_memory_of_its_smallest_batch_after_it_was_warmed(
    tmp_path: Path, graph_writer: Callable[..., Path]
) -> None:
    """Each row takes 4 MiB: its input, which warming makes, and one tensor inside the model."""
    width = MIB // 2
    model = graph_writer(
        tmp_path / "wide" / "1" / "model.onnx",
        {"x": ("FLOAT", ["N", width])},
        {"y": ("FLOAT", ["N", 1])},
        ("Abs", "x", "a"),
        ("Neg", "a", "b"),
        ("ReduceMax", "b", "y"),
        axes=[1],
    )
    session = Recorded(model)
    smallest = warming(model, session, max_batch_size=1)
    smallest.warm(session)
    before = resident_bytes()
    curve: LatencyCurve = warming(model, session, buckets=(1, 16), budget=PLENTY).warm(session)
    assert curve.sizes == (1, 16)
    assert resident_bytes() < before + 20 * MIB
