"""A port's loop knows its delay, which counts towards deadlines."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pixelserve_server.api.handover import Arrivals
from pixelserve_server.transport.h2corn.loop import PortLoop


@pytest.fixture
def loop() -> Iterator[PortLoop]:
    loop = PortLoop()
    yield loop
    loop.close()


def test_what_is_handled_has_waited_for_as_long_as_the_loop_was_busy(loop: PortLoop) -> None:
    async def behind_after(*, is_idle: bool) -> float:
        await asyncio.sleep(0.01)
        found: asyncio.Future[float] = loop.create_future()
        time.sleep(0.2)
        if is_idle:
            await asyncio.sleep(0.01)
        loop.call_soon(lambda: found.set_result(loop.behind_s()))
        return await found

    assert loop.run_until_complete(behind_after(is_idle=False)) >= 0.2
    # It has had nothing to do since: at most the sleep, and whatever a busy machine adds, is left of it.
    assert any(loop.run_until_complete(behind_after(is_idle=True)) < 0.2 for _ in range(50))


class Kept:
    """Records the calls it receives."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def handle_all(self, arrivals: Any) -> None:
        self.calls += [call for _, _, call in arrivals]


@pytest.mark.parametrize(("behind_s", "expected"), [(0.25, 99.75), (0.0, 100.0)])
def test_a_calls_deadline_is_counted_from_when_it_can_have_come(
    loop: PortLoop, recorded_call: Callable[..., Any], behind_s: float, expected: float
) -> None:
    dispatcher: Any = Kept()
    arrivals = Arrivals(loop, dispatcher, lambda: behind_s)
    for deadline_s in (100.0, None):
        arrivals.add("method", b"", recorded_call(deadline_s))
    loop.run_until_complete(asyncio.sleep(0))
    assert [call.deadline_s for call in dispatcher.calls] == [expected, None]
