"""The latency target: its arithmetic, and what the scheduler does about it, on a fake clock."""

from collections.abc import Callable
from typing import Any

import pytest
from simulated_load import MODELS, Setting, SimulatedLoad, fixed_settings

from pixelserve_server.engine.curve import UNMEASURED, LatencyCurve
from pixelserve_server.engine.overload import Overload
from pixelserve_server.engine.target import LatencyTarget
from pixelserve_server.errors import Overloaded

MS = 10**6
HOUR = 3_600_000 * MS
# One row takes as long as two: a full run.
CURVE = LatencyCurve((1, 2), (10 * MS, 10 * MS))


def overload(target_ms: int, curve: LatencyCurve = CURVE, instances: int = 1) -> Overload:
    made = Overload(curve, instances, 0, LatencyTarget(target_ms * MS))
    made.learn(curve, 2)
    return made


@pytest.mark.parametrize(
    ("waiting", "waited_ms", "refusal"),
    [
        pytest.param(0, 0, "", id="the run in progress and its own: 20 ms"),
        pytest.param(2, 5, "", id="one more, and 5 ms before it was read"),
        pytest.param(2, 7, "slow", id="7 ms before it was read: within the target, but not by a tenth"),
        pytest.param(4, 0, "slow", id="two more"),
    ],
)
def test_a_request_is_accepted_if_its_run_ends_a_margin_before_the_target(
    waiting: int, waited_ms: int, refusal: str
) -> None:
    it = overload(40)
    it.begin(0, 2, HOUR)
    assert it.judge(waiting, 1, None, HOUR, waited_ns=waited_ms * MS) == refusal
    assert it.takes_all(waiting, 1, None, HOUR, waited_ms * MS) == (refusal == "")


def test_a_request_joins_others_so_it_is_expected_to_take_as_long_as_a_full_run() -> None:
    it = overload(40, LatencyCurve((1, 2), (1 * MS, 20 * MS)))
    it.begin(0, 2, HOUR)
    assert it.judge(0, 1, None, HOUR) == "slow"


def test_with_nothing_before_it_a_request_is_judged_by_its_time_at_load_alone() -> None:
    it = overload(11)
    # Neither the margin nor a slowdown counts: otherwise nothing would show that both have passed.
    for ticket in range(30):
        it.end(ticket, 2, 80 * MS)
    assert it.judge(0, 1, None, HOUR) == ""
    assert it.judge(0, 4, None, HOUR) == "slow"


def test_sessions_share_what_waits() -> None:
    it = overload(32, instances=2)
    it.begin(0, 2, HOUR)
    it.begin(1, 2, HOUR)
    assert it.judge(3, 1, None, HOUR) == ""
    assert it.judge(4, 1, None, HOUR) == "slow"


def test_without_measured_times_nothing_is_refused() -> None:
    it = overload(1, UNMEASURED)
    it.begin(0, 2, HOUR)
    assert it.judge(1000, 1, None, HOUR) == ""


def test_the_margin_grows_with_late_answers_and_shrinks_without() -> None:
    it = LatencyTarget(100 * MS)
    assert it.room_ns == 90 * MS
    it.answered([101 * MS] * 4)
    assert it.room_ns == pytest.approx(85.05 * MS)
    it.answered([100 * MS] * 4)
    assert it.room_ns == pytest.approx(85.1 * MS)
    for _ in range(1000):
        it.answered([MS])
    assert it.room_ns == 98 * MS
    for _ in range(1000):
        it.answered([HOUR])
    assert it.room_ns == 40 * MS


def test_one_late_answer_in_a_hundred_leaves_the_margin_as_it_is() -> None:
    it = LatencyTarget(100 * MS)
    it.answered([101 * MS] + [MS] * 99)
    assert it.room_ns == 90 * MS


@pytest.mark.parametrize(
    ("times_ms", "target_ms", "limit"),
    [
        pytest.param((1, 2, 4, 8), 100, 8, id="much time: the largest, since it is no slower per row"),
        pytest.param((1.1, 2.1, 4.1, 8.1), 10, 4, id="two runs of the largest do not fit"),
        pytest.param((6, 6, 6, 6), 10, 8, id="no two runs fit, and a large one costs no more than a small one"),
        pytest.param((20, 21, 22, 23), 10, 1, id="none fits"),
    ],
)
def test_the_batch_limit_computes_most_rows_in_time(times_ms: tuple[float, ...], target_ms: int, limit: int) -> None:
    curve = LatencyCurve((1, 2, 4, 8), tuple(int(each * MS) for each in times_ms))
    assert LatencyTarget(target_ms * MS).best_limit(curve, 8, 1.0) == limit


def test_a_queue_delay_is_shortened_to_what_two_runs_leave() -> None:
    it = LatencyTarget(100 * MS)
    assert it.delay_ns(5 * MS, 10 * MS) == 5 * MS
    assert it.delay_ns(80 * MS, 10 * MS) == 70 * MS
    assert it.delay_ns(80 * MS, 50 * MS) == 0


def test_refusals_enlarge_runs_up_to_what_the_target_allows(bench: Callable[..., Any]) -> None:
    now = [1]
    curve = LatencyCurve((1, 2, 4, 8), (10**9, 10**9, 2 * 10**9, 4 * 10**9))
    it = bench(8, limit_batches=True, target_p99_s=6.0, batcher={"curve": curve, "clock_ns": lambda: now[0]})
    assert it.batcher.limit == 2
    it.occupy()
    for value in range(1, 9):
        it.submit(value, arrived_ns=1)
    with pytest.raises(Overloaded, match="it would take longer than this model's latency target"):
        it.submit(9, arrived_ns=1)
    assert it.batcher.target_state.refused == 1
    it.session.let_go(1)
    assert it.session.wait_until_running()
    now[0] = int(30e9)
    it.finish()
    assert it.session.runs[:2] == [[-1], [1, 2, 3, 4]]


def test_after_a_stall_late_requests_give_way_to_others(bench: Callable[..., Any]) -> None:
    now = [1]
    it = bench(
        2, target_p99_s=60.0, batcher={"curve": LatencyCurve((1, 2), (10**10, 10**10)), "clock_ns": lambda: now[0]}
    )
    it.occupy()
    late = [it.submit(value, arrived_ns=1) for value in (1, 2)]
    now[0] = int(57e9)
    # Ten seconds of a run later these are at 67 s, and the others at 10.
    timely = [it.submit(value, arrived_ns=now[0]) for value in (3, 4)]
    it.finish()
    for each in late:
        error = each.answer()
        assert isinstance(error, Overloaded)
        assert "after a slow run" in str(error)
    assert [each.rows() for each in timely] == [[30], [40]]


def keeps(load: SimulatedLoad, seconds: float) -> list[tuple[bool, bool]]:
    return [
        (level.p99_s <= 1.1 * load.model.target_ms / 1e3, level.swing <= 0.2) for level in load.run(seconds=seconds)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("model", [each for each in MODELS if each.name.startswith("cifar10")], ids=lambda m: m.name)
def test_on_a_load_that_doubles_and_halves_the_target_is_kept_without_oscillation(model: Any) -> None:
    assert keeps(SimulatedLoad(model, Setting(target_ms=model.target_ms)), 4.0) == [(True, True)] * 7


@pytest.mark.slow
def test_on_each_level_nearly_as_many_are_accepted_as_with_the_best_fixed_setting_that_keeps_the_target() -> None:
    model, levels = MODELS[2], (0.5, 1.0, 2.0)
    fixed = [SimulatedLoad(model, setting).run(levels, 2.0) for setting in fixed_settings(model)]
    kept = SimulatedLoad(model, Setting(target_ms=model.target_ms)).run(levels, 2.0)
    for number, level in enumerate(kept):
        good = [each[number] for each in fixed if each[number].p99_s <= 1.1 * model.target_ms / 1e3]
        assert len(level.latencies_s) >= 0.9 * max(len(each.latencies_s) for each in good)
    # Without a target the same load makes everything late.
    plain = SimulatedLoad(model, Setting()).run(levels, 2.0)
    assert plain[-1].p99_s > 10 * model.target_ms / 1e3


def test_a_simulated_load_can_be_repeated() -> None:
    loads = [SimulatedLoad(MODELS[2], Setting(target_ms=8)).run((1.0, 2.0), 0.2) for _ in range(2)]
    assert [each.latencies_s for each in loads[0]] == [each.latencies_s for each in loads[1]]
