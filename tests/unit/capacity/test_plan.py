"""Plans for a goal."""

import functools
from dataclasses import replace
from typing import Any

import pytest
from measured_curves import curve

from pixelserve.capacity.curve import MeasuredCurve
from pixelserve.capacity.errors import PlanError
from pixelserve.capacity.latency import pod_at
from pixelserve.capacity.plan import MAX_DECODE_MIB, MAX_INFLIGHT_MIB, WARMUP_MIB, Goal, Plan, make
from pixelserve_server.settings import Settings

GOAL = Goal(rate_per_s=1000, p99_s=0.050)


def planned(goal: Goal = GOAL, **changes: Any) -> Plan:
    return make(MeasuredCurve.of(curve(**changes)), goal) if changes else unchanged(goal)


@functools.cache
def unchanged(goal: Goal) -> Plan:
    return make(MeasuredCurve.of(curve()), goal)


def test_the_p99_holds_with_the_spare_pod_lost_and_not_with_one_less() -> None:
    plan = planned()
    assert plan.pods == plan.reduced.pods + 1
    assert plan.reduced.p99_s <= GOAL.p99_s
    assert plan.normal.p99_s < plan.reduced.p99_s
    fewer = pod_at(plan.service, GOAL.rate_per_s / (plan.reduced.pods - 1))
    assert fewer.percentile_s(99) > GOAL.p99_s


@pytest.mark.parametrize("spare_pods", [0, 1, 3])
def test_spare_pods_come_on_top(spare_pods: int) -> None:
    plan = planned(replace(GOAL, spare_pods=spare_pods))
    assert plan.pods == planned(replace(GOAL, spare_pods=0)).pods + spare_pods


@pytest.mark.slow
def test_ten_times_the_rate_takes_ten_times_the_pods() -> None:
    one, ten = (planned(replace(GOAL, rate_per_s=rate, spare_pods=0)).pods for rate in (10_000, 100_000))
    assert ten == pytest.approx(10 * one, abs=10)


def test_a_small_rate_takes_one_pod_and_a_spare() -> None:
    assert planned(replace(GOAL, rate_per_s=0.01)).pods == 2


def test_a_tight_p99_limits_a_pod_and_a_loose_one_leaves_it_to_throughput() -> None:
    tight, loose = planned(replace(GOAL, p99_s=0.012)), planned(replace(GOAL, p99_s=10))
    assert not tight.is_limited_by_throughput
    assert loose.is_limited_by_throughput
    assert tight.pods > loose.pods


def test_a_p99_below_a_lone_run_is_refused_with_what_a_lone_run_takes() -> None:
    with pytest.raises(
        PlanError, match=r"no number of pods keeps a p99 of 3 ms: .* alone in a pod has a p99 of 3.6 ms"
    ):
        planned(replace(GOAL, p99_s=0.003))


def test_scaling_aims_at_what_waits_at_the_planned_rate() -> None:
    plan = planned()
    waiting = pod_at(plan.service, GOAL.rate_per_s / plan.pods).waiting
    assert plan.target_waiting == pytest.approx(waiting, rel=0.05)
    assert plan.most_pods == 2 * plan.pods


def test_the_pod_has_the_cores_that_it_uses_while_it_computes() -> None:
    # The processor time is 1.05 times the run time: one thread, and an error of measurement.
    plan = planned()
    assert plan.busy_cores == pytest.approx(1.05, rel=0.02)
    assert plan.cores == 1
    levels = [level | {"cpu_ms_per_request": 2.6 * level["cpu_ms_per_request"]} for level in curve()["levels"]]
    assert planned(levels=levels).cores == 3


def test_the_memory_is_what_was_measured_and_what_the_server_may_take_besides() -> None:
    assert planned().memory_mib == 1024 >= 200 + MAX_INFLIGHT_MIB + WARMUP_MIB
    pictures = planned(method="/pixelserve.v1.Classifier/Classify")
    assert pictures.memory_mib == 1024 + MAX_DECODE_MIB


def test_the_bounds_are_the_servers_defaults() -> None:
    fields = [Settings.model_fields[name] for name in ("max_inflight_mib", "max_decode_mib", "warmup_mib")]
    assert [field.default for field in fields] == [MAX_INFLIGHT_MIB, MAX_DECODE_MIB, WARMUP_MIB]


def test_what_was_not_measured_is_not_planned() -> None:
    levels = [level | {"cpu_ms_per_request": None} for level in curve()["levels"]]
    plan = planned(levels=levels, memory_bytes=None)
    assert (plan.cores, plan.memory_mib) == (None, None)


def test_batches_save_pods() -> None:
    measured = MeasuredCurve.of(curve())
    assert make(measured, GOAL).pods < make(measured, GOAL, batch_images=1).pods
