"""The engine's promises under every fault at once, on a virtual clock: see tests/support/simulated_engine.py."""

import random
from collections import Counter
from collections.abc import Callable

import pytest
from simulated_engine import Engine, simulate
from virtual_time import Parked, SimulatedLock, SimulatedWakeup, Task, Violation, World

# A new seed each time; failures name it, so they can be reproduced.
NEW_SEED = random.SystemRandom().randrange(10**6)


@pytest.mark.parametrize("seed", [1, 2, 3, 4, NEW_SEED], ids=lambda seed: "new" if seed == NEW_SEED else None)
def test_every_accepted_request_is_answered_once_whatever_fails(seed: int) -> None:
    seen = simulate(seed, 6000)
    assert seen["accepted"] == seen["answered"] > 0


def test_the_same_seed_has_the_same_things_happen() -> None:
    assert Engine(9, 2000).run() == Engine(9, 2000).run()


def test_every_fault_happens() -> None:
    seen = sum((Engine(seed, 8000).run() for seed in (1, 2, 7)), start=Counter[str]())
    for what in ("break", "clock jump", "on arrival", "session dies", "session hangs", "session mismatch"):
        assert seen[what], what
    for what in (
        "session raises",
        "session rebuilt",
        "swap",
        "answer: Unavailable",
        "refused: QueueFull",
        "answer: QueueFull",
    ):
        assert seen[what], what


def test_a_failure_names_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise Violation("a promise")

    monkeypatch.setattr(Engine, "answered", fail)
    with pytest.raises(AssertionError, match=r"seed 7, 100 requests: .*a promise"):
        simulate(7, 100)


@pytest.fixture
def place() -> tuple[World, SimulatedLock, SimulatedWakeup]:
    world, lock = World(0), SimulatedLock()
    return world, lock, SimulatedWakeup(world, lock)


def sleeper(world: World, lock: SimulatedLock, wakeup: SimulatedWakeup, times: list[int]) -> Callable[[], None]:
    """A task's step: sleeps for a millisecond at most, the first time."""

    def step() -> None:
        times.append(world.now_ns)
        if len(times) == 1:
            with lock:
                wakeup.sleep(0.001)

    return step


def test_a_task_sleeps_until_its_time_is_up(place: tuple[World, SimulatedLock, SimulatedWakeup]) -> None:
    world, lock, wakeup = place
    times: list[int] = []
    task = Task(world, sleeper(world, lock, wakeup, times))
    world.run()
    assert (len(times), task.has_ended, lock.is_held, wakeup.sleeping) == (2, True, False, 0)
    assert times[1] - times[0] >= 10**6


def test_a_task_that_is_woken_does_not_wait_until_its_time_is_up(
    place: tuple[World, SimulatedLock, SimulatedWakeup],
) -> None:
    world, lock, wakeup = place
    times: list[int] = []
    Task(world, sleeper(world, lock, wakeup, times))

    def wake() -> None:
        with lock:
            wakeup.wake()

    world.after(100_000, wake)
    world.run()
    assert len(times) == 2
    assert times[1] - times[0] < 10**6


def test_waiting_for_a_lock_that_one_holds_is_a_violation(place: tuple[World, SimulatedLock, SimulatedWakeup]) -> None:
    _, lock, wakeup = place
    with lock, pytest.raises(Violation, match="a lock that it holds"), lock:
        pass
    with pytest.raises(Violation, match="who wakes holds the lock"):
        wakeup.wake()
    with lock, pytest.raises(Violation, match="no thread from outside sleeps"):
        wakeup.sleep(None)
    assert issubclass(Parked, BaseException)
