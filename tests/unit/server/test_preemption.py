"""h2corn's threads let the model's run while the server has its cores to itself."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from limits import LIMITS

from pixelserve_server.deadline import Deadline
from pixelserve_server.failures import FailureLog
from pixelserve_server.supervised import Supervisor
from pixelserve_server.transport.h2corn import H2cornHttpPort, preemption
from pixelserve_server.transport.h2corn.preemption import Preemption


class Machine:
    """A clock, this process's CPU time, and the policy of h2corn's threads. Waiting lets the time pass."""

    def __init__(self, cores: int = 1) -> None:
        self.now_s = self.cpu_s = 0.0
        self.cores = cores
        self.share = 0.0
        self.set: list[bool] = []
        self.change: Callable[[bool], None] = self.set.append
        self.refusals: list[OSError] = []
        self.waits: list[float] = []
        self.end_s = 0.0
        self.looks = 0
        self.preemption = Preemption(
            self.refusals.append,
            Supervisor(FailureLog(None)),
            now_s=lambda: self.now_s,
            cpu_s=self.look,
            cores=lambda: self.cores,
            set_batch=lambda is_batch: self.change(is_batch),
        )

    def look(self) -> float:
        """Returns the process's CPU time."""
        self.looks += 1
        return self.cpu_s

    def wait(self, timeout_s: float) -> bool:
        """Stands in for waiting until the thread shall stop."""
        self.waits.append(timeout_s)
        self.now_s += timeout_s
        self.cpu_s += self.share * timeout_s
        return self.now_s >= self.end_s

    def spend(self, share: float, seconds: float = 0.3) -> None:
        """Lets the thread work for some time, of which the process gets a share of one core."""
        self.share, self.end_s = share, self.now_s + seconds
        self.waits.clear()
        self.looks = 0
        stop: Any = SimpleNamespace(wait=self.wait)
        self.preemption._stop = stop
        self.preemption._work()


def test_a_process_that_has_its_core_to_itself_is_not_interrupted_by_packets() -> None:
    machine = Machine()
    machine.spend(0.95, seconds=2)
    assert machine.set == [True]
    machine.spend(0.5)
    assert machine.set == [True, False]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.75])
def test_another_process_may_want_the_rest(share: float) -> None:
    """Of one core, three busy threads get three quarters beside another process's one."""
    machine = Machine()
    machine.spend(share, seconds=2)
    assert machine.set == []


def test_all_cores_must_be_busy() -> None:
    machine = Machine(cores=4)
    machine.spend(3.0)
    assert machine.set == []
    machine.spend(3.9)
    assert machine.set == [True]
    # A container gets more cores while it runs.
    machine.cores = 8
    machine.spend(3.9)
    assert machine.set == [True, False]


def test_it_wakes_up_often_only_while_it_gives_h2corn_its_turns() -> None:
    machine = Machine()
    machine.spend(0.5, seconds=1)
    assert set(machine.waits) == {preemption._LOOK_S}
    machine.spend(0.95, seconds=1)
    assert machine.waits.count(preemption._LOOK_S) <= 2
    assert 200 <= machine.waits.count(preemption._WAKE_S) <= 350
    # A share of a few milliseconds says little.
    assert machine.looks <= 11
    machine.spend(0.0, seconds=1)
    assert machine.waits.count(preemption._LOOK_S) > 5


@pytest.mark.parametrize("error", [PermissionError(errno.EPERM, "forbidden"), OSError(errno.EMFILE, "no descriptor")])
def test_a_system_that_refuses_is_asked_once_a_minute_and_named_once(error: OSError) -> None:
    machine = Machine()
    asked: list[bool] = []

    def refuse(is_batch: bool) -> None:
        asked.append(is_batch)
        raise error

    machine.change = refuse
    machine.spend(0.95, seconds=180)
    assert machine.refusals == [error]
    assert 2 <= len(asked) <= 3
    machine.change = machine.set.append
    machine.spend(0.95)
    assert machine.set == [True]


def test_its_thread_ends_at_once() -> None:
    threads = Preemption(lambda _: None, Supervisor(FailureLog(None)))
    threads.start()
    threads.close()
    assert "preemption" not in [thread.name for thread in threading.enumerate()]


@pytest.fixture
def serving() -> Iterator[None]:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    port = H2cornHttpPort(LIMITS, lambda error: str(error))
    port.bind("127.0.0.1", 0)
    port.start(lambda: nothing)
    yield
    port.stop(Deadline.after(1))


def policies(of_name: Callable[[str], bool]) -> set[int]:
    tasks = list(Path("/proc/self/task").iterdir())
    return {os.sched_getscheduler(int(task.name)) for task in tasks if of_name((task / "comm").read_text().strip())}


@pytest.mark.usefixtures("serving")
def test_h2corns_threads_are_found_and_no_others() -> None:
    def is_h2corns(name: str) -> bool:
        return name == "tokio-rt-worker"

    assert policies(is_h2corns) == {os.SCHED_OTHER}, "h2corn's threads have another name"
    preemption._set_batch(True)
    try:
        assert policies(is_h2corns) == {os.SCHED_BATCH}
        assert policies(lambda name: not is_h2corns(name)) == {os.SCHED_OTHER}
    finally:
        preemption._set_batch(False)
    assert policies(is_h2corns) == {os.SCHED_OTHER}
