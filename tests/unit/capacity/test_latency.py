"""The formulas of `pixelserve plan` against closed forms and against a simulation with simpy."""

import math

import pytest
from simulated_pods import simulate

from pixelserve.capacity.latency import HIGHEST_SHARE, highest_rate_per_s, pod_at
from pixelserve.capacity.service import Service

WITHIN = 0.15
# Half of the runs a little faster than the mean, two in a hundred much slower.
UNEVEN = ((-0.0001, 0.5), (0.0, 0.37), (0.0002, 0.11), (0.001, 0.012), (0.002, 0.008))
EVEN = ((0.0, 1.0),)
# Milliseconds of a run and of each request in it: all cost per request, as the committed models have it, and per run.
TIMES = {"linear": (0.0, 1.0), "cifar10": (0.2, 1.05), "small": (0.3, 0.05), "fixed": (1.0, 0.1)}


def service(times: str, limit: int, sessions: int = 1, deviations: tuple[tuple[float, float], ...] = EVEN) -> Service:
    fixed_ms, per_request_ms = TIMES[times]
    return Service(fixed_ms / 1e3, per_request_ms / 1e3, limit, sessions, 0.0002, deviations)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_without_batches_the_mean_wait_is_that_of_m_d_1(share: float) -> None:
    pod = pod_at(service("linear", 1), share * 1000)
    # Pollaczek and Khinchine, for equal run times of 1 ms.
    assert pod.waiting == pytest.approx(share * 1000 * 0.001 * share / (2 * (1 - share)), rel=0.01)
    assert pod.utilisation == pytest.approx(share)
    assert pod.requests_per_run == pytest.approx(1)


def test_without_batches_uneven_runs_wait_as_in_m_g_1() -> None:
    deviations = ((-0.0005, 0.5), (0.0005, 0.5))
    pod = pod_at(service("linear", 1, deviations=deviations), 700)
    second_moment = (0.0005**2 + 0.0015**2) / 2
    assert pod.waiting == pytest.approx(700 * 700 * second_moment / (2 * 0.3), rel=0.01)


def test_a_lone_request_takes_its_run_and_what_is_outside_the_pod() -> None:
    pod = pod_at(service("cifar10", 8), 0.01)
    assert pod.percentile_s(99) == pytest.approx(0.0002 + 0.0002 + 0.00105, rel=0.001)


@pytest.mark.parametrize("sessions", [1, 3])
def test_runs_and_utilisation_carry_the_rate(sessions: int) -> None:
    its = service("fixed", 16, sessions)
    rate_per_s = 0.6 * its.most_per_s
    pod = pod_at(its, rate_per_s)
    runs_per_s = rate_per_s / pod.requests_per_run
    assert pod.utilisation * sessions == pytest.approx(runs_per_s * its.run_s(pod.requests_per_run), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("times", "limit", "sessions", "deviations"),
    [
        *((times, limit, 1, EVEN) for times in TIMES for limit in (4, 32)),
        *((times, 4, 1, UNEVEN) for times in TIMES),
        ("linear", 1, 2, EVEN),
        ("cifar10", 4, 2, UNEVEN),
        ("fixed", 32, 4, EVEN),
    ],
)
def test_p99_and_waiting_are_within_15_percent_of_a_simulation(
    times: str, limit: int, sessions: int, deviations: tuple[tuple[float, float], ...]
) -> None:
    its = service(times, limit, sessions, deviations)
    for number, share in enumerate((0.3, 0.8)):
        rate_per_s = share * its.most_per_s
        pod, seen = pod_at(its, rate_per_s), simulate(its, rate_per_s, 30_000, seed=number)
        assert pod.percentile_s(99) == pytest.approx(seen.percentile_s(99), rel=WITHIN)
        waiting = rate_per_s * sum(seen.waits_s) / len(seen.waits_s)
        assert pod.waiting == pytest.approx(waiting, rel=WITHIN)
        assert pod.requests_per_run == pytest.approx(len(seen.waits_s) / seen.runs, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("sessions", [1, 2])
def test_the_p99_grows_with_the_rate(sessions: int) -> None:
    its = service("cifar10", 4, sessions, UNEVEN)
    found = [pod_at(its, share * its.most_per_s).percentile_s(99) for share in (0.05, 0.3, 0.5, 0.7, 0.9)]
    assert found == sorted(found)
    assert found[-1] > 2 * found[0]


def test_the_highest_rate_is_the_one_at_which_the_p99_is_used_up() -> None:
    its = service("cifar10", 4)
    highest_per_s = highest_rate_per_s(its, 0.008)
    assert pod_at(its, highest_per_s).percentile_s(99) <= 0.008
    assert pod_at(its, 1.01 * highest_per_s).percentile_s(99) > 0.008


def test_a_generous_p99_leaves_the_highest_predictable_rate() -> None:
    its = service("cifar10", 4)
    assert highest_rate_per_s(its, math.inf) == pytest.approx(HIGHEST_SHARE * its.most_per_s)


def test_no_rate_keeps_a_p99_below_a_single_run() -> None:
    assert highest_rate_per_s(service("cifar10", 4), 0.001) == 0.0


def test_a_queue_longer_than_the_first_bound_is_solved() -> None:
    # Of runs that are often 20 times as long, hundreds of requests wait.
    its = Service(0.0, 0.001, 1, deviations=((-0.0009, 0.9526), (0.0181, 0.0474)))
    pod = pod_at(its, 900)
    second_moment = 0.9526 * 0.0001**2 + 0.0474 * 0.0191**2
    mean_s = 0.9526 * 0.0001 + 0.0474 * 0.0191
    assert pod.waiting == pytest.approx(900**2 * second_moment / (2 * (1 - 900 * mean_s)), rel=0.02)
