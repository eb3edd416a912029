"""The batch sizes that are timed at load, how often, and for how long."""

import dataclasses
from typing import Any

import pytest

from pixelserve_server.engine.curve import UNMEASURED, LatencyCurve
from pixelserve_server.engine.measuring import WarmupBudget, measure
from pixelserve_server.engine.memory import resident_bytes, trim

PLENTY = WarmupBudget(seconds=1e6, memory_bytes=1 << 50)
SIZES = (1, 2, 4, 8, 16, 32, 64)
MS, S = 10**6, 10**9
MIB = 1 << 20


class Machine:
    """A model whose runs take time and memory as told; nothing else takes any."""

    def __init__(self, times_s: dict[int, float] | None = None, row_mib: int = 0) -> None:
        """Simulates the seconds per run by size, by default one, and the memory of a row."""
        self.now_ns = 0
        self.held_bytes = 0
        self.runs: list[int] = []
        self.noise_ns: list[int] = []
        self._times_s = times_s or {}
        self._row_bytes = row_mib * MIB

    def run(self, rows: int) -> None:
        self.now_ns += int(self._times_s.get(rows, 1) * S) + (self.noise_ns.pop(0) if self.noise_ns else 0)
        # An arena keeps the most that any run has needed.
        self.held_bytes = max(self.held_bytes, rows * self._row_bytes)
        self.runs.append(rows)

    def measure(self, *sizes: int, budget: WarmupBudget = PLENTY, **changes: Any) -> LatencyCurve:
        settings: dict[str, Any] = {"clock_ns": lambda: self.now_ns, "resident": lambda: self.held_bytes}
        return measure(self.run, sizes, budget, **(settings | changes))


def per_row(seconds: float) -> dict[int, float]:
    """Returns run times that are proportional to the rows."""
    return {size: seconds * size for size in SIZES}


def test_the_fastest_of_several_runs_counts_and_the_first_never_does() -> None:
    machine = Machine({1: 0.001})
    machine.noise_ns = [0, 9, 8, 7, 8, 9]
    assert machine.measure(1) == LatencyCurve((1,), (MS + 7,), runs=(5,), spent_ns=(5 * MS + 41,))
    assert machine.runs == [1] * 6


def test_long_runs_are_timed_three_times() -> None:
    machine = Machine({1: 0.0049, 2: 0.0066})
    assert machine.measure(1, 2).runs == (5, 4)
    assert Machine().measure(1).runs == (3,)


def test_all_sizes_are_measured_while_larger_ones_are_faster_per_row() -> None:
    machine = Machine()
    measured = machine.measure(*SIZES)
    assert (measured.sizes, measured.stop, measured.best_size) == (SIZES, "", 64)


def test_measuring_ends_after_two_sizes_that_are_no_faster_per_row() -> None:
    machine = Machine({1: 1, 2: 1.5, 4: 3, 8: 6})
    measured = machine.measure(*SIZES)
    assert (measured.sizes, measured.stop, measured.best_size) == ((1, 2, 4, 8), "no faster", 2)
    assert set(machine.runs) == {1, 2, 4, 8}


def test_a_size_that_is_expected_to_exceed_the_time_budget_is_not_begun() -> None:
    # 1 row: four runs of 1 s. 2 rows: two runs, expected to take 2 s each, of which one fits a second time.
    machine = Machine()
    measured = machine.measure(1, 2, 4, budget=dataclasses.replace(PLENTY, seconds=8))
    assert (measured.sizes, measured.stop) == ((1, 2), "time")
    assert machine.now_ns <= 8 * S
    machine = Machine()
    assert machine.measure(1, 2, budget=dataclasses.replace(PLENTY, seconds=7)).sizes == (1,)


def test_a_size_is_timed_less_often_where_the_time_budget_ends() -> None:
    machine = Machine()
    measured = machine.measure(1, budget=dataclasses.replace(PLENTY, seconds=3.5))
    assert (machine.runs, measured.runs) == ([1] * 3, (2,))


@pytest.mark.parametrize("seconds", [0, 0.5])
def test_a_model_whose_first_run_exceeds_the_time_budget_is_run_once(seconds: float) -> None:
    machine = Machine()
    measured = machine.measure(*SIZES, budget=dataclasses.replace(PLENTY, seconds=seconds))
    assert measured == LatencyCurve((1,), (S,), runs=(1,), spent_ns=(S,), stop="time")
    assert machine.runs == [1]


def test_a_size_that_is_expected_to_exceed_the_memory_budget_is_not_begun() -> None:
    # By 4 rows it has grown by 40 MiB, 20 of them for the last two; 8 rows are expected to need 40 more.
    machine = Machine(row_mib=10)
    budget = dataclasses.replace(PLENTY, memory_bytes=79 * MIB)
    assert (machine.measure(*SIZES, budget=budget).stop, machine.held_bytes) == ("memory", 40 * MIB)
    machine = Machine(row_mib=10)
    budget = dataclasses.replace(PLENTY, memory_bytes=80 * MIB)
    assert (machine.measure(*SIZES, budget=budget).stop, machine.held_bytes) == ("memory", 80 * MIB)


def test_memory_that_the_process_held_before_is_not_counted() -> None:
    machine = Machine(row_mib=1)
    machine.held_bytes = 1 << 40
    assert machine.measure(*SIZES, budget=dataclasses.replace(PLENTY, memory_bytes=MIB)).sizes == SIZES


def test_every_size_is_run_where_that_is_asked_whatever_it_takes() -> None:
    machine = Machine(per_row(1), row_mib=1)
    measured = machine.measure(*SIZES, budget=WarmupBudget(0, 0), every_size=True)
    assert (measured.sizes, measured.stop) == (SIZES, "")
    assert machine.runs == list(SIZES)


def test_what_a_run_raises_is_raised() -> None:
    def fail(_: int) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        measure(fail, (1,), PLENTY)


def test_no_sizes_make_no_curve() -> None:
    assert Machine().measure() == UNMEASURED


def test_memory_that_was_freed_goes_back_to_the_system() -> None:
    """Blocks of this size come from the heap, where a block in use above them keeps the freed ones resident."""
    before = resident_bytes()
    blocks = [b"x" * 100_000 for _ in range(640)]
    held = resident_bytes()
    assert held >= before + 50 * MIB
    last = blocks.pop()
    blocks.clear()
    trim()
    assert resident_bytes() < held - 40 * MIB
    assert len(last) == 100_000
