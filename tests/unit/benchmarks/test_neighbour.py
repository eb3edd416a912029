"""The busy process beside the server."""

import os
from pathlib import Path

import pytest

from benchmarks.compare.cores import Cores
from benchmarks.compare.neighbour import busy


@pytest.fixture
def cores() -> Cores:
    usable = os.sched_getaffinity(0)
    return Cores(server=max(usable), load=min(usable), second=min(usable))


def test_the_neighbour_is_on_the_servers_core_at_its_priority_and_ends_with_the_measurement(cores: Cores) -> None:
    with busy(cores) as pid:
        assert os.sched_getaffinity(pid) == {cores.server}
        assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0)
        assert os.sched_getscheduler(pid) == os.SCHED_OTHER
    assert not Path(f"/proc/{pid}").exists()


def test_the_neighbour_ends_if_the_measurement_fails(cores: Cores) -> None:
    with pytest.raises(ZeroDivisionError), busy(cores) as pid:
        raise ZeroDivisionError
    assert not Path(f"/proc/{pid}").exists()
