"""The decoding pool: bounded, and whole after it was full."""

import threading

import pytest

from pixelserve_server.errors import QueueFull
from pixelserve_server.imaging.pool import DecodePool

TIMEOUT_S = 30


def test_a_full_pool_refuses_at_once_and_does_what_it_took() -> None:
    """Timeline: 1. one piece of work holds the only thread and one waits; 2. a third is refused; 3. both end."""
    pool = DecodePool(threads=1, max_waiting=1)
    gate, ended = threading.Event(), threading.Semaphore(0)

    def work() -> None:
        gate.wait(TIMEOUT_S)
        ended.release()

    pool.submit(work)
    pool.submit(work)
    with pytest.raises(QueueFull, match="wait for their pictures"):
        pool.submit(work)
    gate.set()
    assert ended.acquire(timeout=TIMEOUT_S)
    assert ended.acquire(timeout=TIMEOUT_S)
    pool.close()


def test_work_that_ended_or_raised_gives_its_place_back() -> None:
    pool = DecodePool(threads=1, max_waiting=0)

    def fail() -> None:
        raise ValueError("broken")

    for _ in range(3):
        while True:
            try:
                pool.submit(fail)
                break
            except QueueFull:
                # The one before is just ending.
                continue
    pool.close()
