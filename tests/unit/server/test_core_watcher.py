"""Models get as many threads as there are cores, also when a container's limit changes while it runs."""

from collections.abc import Iterator

import pytest

from pixelserve_server.repository.core_watcher import CoreWatcher
from pixelserve_server.supervised import Supervisor


class Machine:
    """Cores that change by hand, and what a watcher of them did."""

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self.applied: list[tuple[int, int]] = []
        self.failures: list[BaseException] = []
        self.error: Exception | None = None
        self.watcher = CoreWatcher(self.apply, Supervisor(self.log_failure), cores=lambda: self.cores, interval_s=0.001)

    def log_failure(self, error: BaseException) -> str:
        self.failures.append(error)
        return "id"

    def apply(self, before: int, now: int) -> None:
        self.applied.append((before, now))
        if self.error is not None:
            raise self.error

    def look(self, cores: int) -> list[tuple[int, int]]:
        """Returns what was applied so far, after a look at so many cores."""
        self.cores = cores
        self.watcher.look()
        return self.applied


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine(2)
    yield machine
    machine.watcher.close()


def test_nothing_is_applied_while_the_cores_stay(machine: Machine) -> None:
    assert machine.look(2) == machine.look(2) == []


def test_a_change_is_applied_once_it_is_stable(machine: Machine) -> None:
    assert machine.look(1) == []
    assert machine.look(1) == [(2, 1)]
    assert machine.look(1) == [(2, 1)]
    assert machine.look(4) == [(2, 1)]
    assert machine.look(4) == [(2, 1), (1, 4)]


def test_a_change_that_is_taken_back_is_not_applied(machine: Machine) -> None:
    machine.look(1)
    assert machine.look(2) == machine.look(2) == []


def test_a_limit_that_keeps_changing_is_applied_when_it_rests(machine: Machine) -> None:
    for cores in (1, 2, 3, 1):
        assert machine.look(cores) == []
    assert machine.look(1) == [(2, 1)]


def test_a_change_that_could_not_be_applied_is_tried_again(machine: Machine) -> None:
    machine.look(1)
    machine.error = RuntimeError("busy")
    with pytest.raises(RuntimeError, match="busy"):
        machine.look(1)
    machine.error = None
    assert machine.look(1) == [(2, 1), (2, 1)]
    assert machine.look(1) == [(2, 1), (2, 1)]
