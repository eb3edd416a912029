"""Which scheduling policy the fast lane's network threads get."""

import os
import queue
import threading

import pytest

pytest.importorskip("pygrpc_native")

from pixelserve_server.transport.fast import _quiet_wakeups

pytestmark = pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="only Linux has it")


def policy_of_a_new_thread() -> int:
    policies: queue.Queue[int] = queue.Queue()
    thread = threading.Thread(target=lambda: policies.put(os.sched_getscheduler(0)))
    thread.start()
    thread.join()
    return policies.get()


def test_threads_that_are_started_inside_are_quiet_and_others_are_not() -> None:
    before = os.sched_getscheduler(0)
    with _quiet_wakeups(True):
        assert policy_of_a_new_thread() == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == before
    assert policy_of_a_new_thread() == before


def test_the_policy_is_restored_where_starting_them_fails() -> None:
    before = os.sched_getscheduler(0)
    with pytest.raises(OSError, match="in use"), _quiet_wakeups(True):
        raise OSError("the port is in use")
    assert os.sched_getscheduler(0) == before


def test_nothing_changes_where_it_is_switched_off() -> None:
    before = os.sched_getscheduler(0)
    with _quiet_wakeups(False):
        assert policy_of_a_new_thread() == before


def test_a_sandbox_that_forbids_it_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", forbid)
    before = os.sched_getscheduler(0)
    with _quiet_wakeups(True):
        assert policy_of_a_new_thread() == before


def test_a_policy_that_somebody_chose_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real-time policy has a priority, without which the kernel does not take it back."""
    monkeypatch.setattr(os, "sched_getscheduler", lambda _: os.SCHED_RR)
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: pytest.fail("it was chosen"))
    with _quiet_wakeups(True):
        pass
