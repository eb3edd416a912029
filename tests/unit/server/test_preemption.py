"""h2corn's threads let the model's run while the server has its cores to itself."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from limits import LIMITS

from pixelserve_server.deadline import Deadline
from pixelserve_server.transport.h2corn import H2cornHttpPort, preemption
from pixelserve_server.transport.h2corn.loop import PortLoop
from pixelserve_server.transport.h2corn.preemption import Preemption


class Machine:
    """A clock, this process's CPU time, and the policy of h2corn's threads."""

    def __init__(self, cores: int = 1) -> None:
        self.now_s = self.cpu_s = 0.0
        self.cores = cores
        self.set: list[bool] = []
        self.change: Callable[[bool], None] = self.set.append
        self.preemption = Preemption(
            0.0, cpu_s=lambda: self.cpu_s, cores=lambda: self.cores, set_batch=lambda is_batch: self.change(is_batch)
        )

    def spend(self, share: float, seconds: float = 0.2, step_s: float = 0.01) -> None:
        """Lets time pass, of which the process gets a share of one core; the loop turns at each step."""
        for _ in range(round(seconds / step_s)):
            self.now_s += step_s
            self.cpu_s += share * step_s
            self.preemption.look(self.now_s)


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


def test_a_pause_counts_as_idle() -> None:
    machine = Machine()
    machine.spend(0.95)
    machine.spend(0.0, seconds=60, step_s=60)
    assert machine.set == [True, False]


def test_a_look_is_rare() -> None:
    machine, looks = Machine(), 0

    def cpu_s() -> float:
        nonlocal looks
        looks += 1
        return machine.cpu_s

    machine.preemption._cpu_s = cpu_s
    machine.spend(0.95, seconds=1, step_s=0.001)
    assert 8 <= looks <= 10


@pytest.mark.parametrize("error", [PermissionError, AttributeError])
def test_a_sandbox_that_forbids_it_is_not_asked_again(error: type[Exception]) -> None:
    machine = Machine()

    def refuse(is_batch: bool) -> None:
        machine.set.append(is_batch)
        raise error

    machine.change = refuse
    for share in (0.95, 0.1, 0.95):
        machine.spend(share)
    assert machine.set == [True]


def test_one_port_looks_at_a_time() -> None:
    machine, inside, answers = Machine(), threading.Event(), threading.Event()

    def wait(is_batch: bool) -> None:
        machine.set.append(is_batch)
        inside.set()
        answers.wait(30)

    machine.change = wait
    machine.now_s = machine.cpu_s = 1.0
    first = threading.Thread(target=machine.preemption.look, args=(1.0,))
    first.start()
    assert inside.wait(30)
    # Neither waits for the other.
    machine.preemption.look(2.0)
    answers.set()
    first.join()
    assert machine.set == [True]


def test_every_turn_of_a_ports_loop_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[float] = []
    shared: Any = type("Recorded", (), {"look": staticmethod(looked.append)})
    monkeypatch.setattr("pixelserve_server.transport.h2corn.loop.of_this_process", lambda: shared)
    loop = PortLoop()
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert looked
    assert preemption.of_this_process() is preemption.of_this_process()


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
