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
        self.groups: list[list[Any]] = []

    @property
    def calls(self) -> list[Any]:
        return [call for group in self.groups for call in group]

    def handle_all(self, arrivals: Any) -> None:
        self.groups.append([call for _, _, call in arrivals])


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


def test_a_lone_call_is_dispatched_at_once(loop: PortLoop, recorded_call: Callable[..., Any]) -> None:
    dispatcher: Any = Kept()
    arrivals, calls = Arrivals(loop, dispatcher), [recorded_call() for _ in range(5)]
    for call in calls[:2]:
        arrivals.expect()
        arrivals.add("method", b"", call)
    # No turn of the loop has passed.
    assert dispatcher.groups == [[calls[0]], [calls[1]]]
    # One was announced that never came, so these could be two that came together.
    arrivals.expect()
    arrivals.expect()
    arrivals.add("method", b"", calls[2])
    assert len(dispatcher.groups) == 2
    loop.run_until_complete(asyncio.sleep(0))
    # It is forgotten now.
    arrivals.expect()
    arrivals.add("method", b"", calls[3])
    assert dispatcher.groups[2:] == [[calls[2]], [calls[3]]]
    assert all(call.may_compute for call in calls[:4])


def test_calls_that_come_together_are_dispatched_together(loop: PortLoop, recorded_call: Callable[..., Any]) -> None:
    dispatcher: Any = Kept()
    arrivals, calls = Arrivals(loop, dispatcher), [recorded_call() for _ in range(4)]
    # The first has not been announced, like the messages of a stream.
    arrivals.add("method", b"", calls[0])
    for _ in range(3):
        arrivals.expect()
    for call in calls[1:]:
        arrivals.add("method", b"", call)
    assert not dispatcher.groups
    loop.run_until_complete(asyncio.sleep(0))
    assert dispatcher.groups == [calls]
    assert not any(call.may_compute for call in calls)


def test_a_lone_call_takes_those_along_that_wait_for_the_end_of_the_turn(
    loop: PortLoop, recorded_call: Callable[..., Any]
) -> None:
    dispatcher: Any = Kept()
    arrivals, calls = Arrivals(loop, dispatcher), [recorded_call() for _ in range(2)]
    failures: list[Any] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    arrivals.add("method", b"", calls[0])
    arrivals.expect()
    arrivals.add("method", b"", calls[1])
    loop.run_until_complete(asyncio.sleep(0))
    assert (dispatcher.groups, failures) == ([calls], [])
