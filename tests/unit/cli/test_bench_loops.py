"""The load generator on a fake clock: the requests of each loop, their times, and the counts."""

import heapq
import itertools
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from pixelserve.bench.loops import ClosedLoop, Extent, OpenLoop
from pixelserve.bench.timeline import RealTime


@dataclass
class VirtualTime:
    """A fake clock on which waiting is instantaneous: it jumps from one event to the next."""

    time_s: float = 0.0
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    order: "itertools.count[int]" = field(default_factory=itertools.count)

    def now_s(self) -> float:
        """Returns the virtual time."""
        return self.time_s

    def at(self, moment_s: float, action: Callable[[], None]) -> None:
        """Plans something."""
        heapq.heappush(self.events, (moment_s, next(self.order), action))

    def step(self) -> None:
        """Goes to the next event."""
        moment_s, _, action = heapq.heappop(self.events)
        self.time_s = max(self.time_s, moment_s)
        action()

    def sleep_until(self, moment_s: float) -> None:
        """Goes to a moment, through all events before it."""
        while self.events and self.events[0][0] <= moment_s:
            self.step()
        self.time_s = max(self.time_s, moment_s)

    def wait(self, event: threading.Event) -> None:
        """Goes on until an event is set."""
        while not event.is_set():
            self.step()


@dataclass
class Server:
    """Answers a request after a millisecond, and nothing during its stall; keeps when it was asked."""

    time: VirtualTime
    stall_from_s: float = 0.0
    stall_to_s: float = 0.0
    status: str = "OK"
    asked_s: list[float] = field(default_factory=list)

    def send(self, on_done: Callable[[str], None]) -> None:
        """Takes a request."""
        self.asked_s.append(self.time.now_s())
        done_s = self.time.now_s() + 0.001
        if self.stall_from_s <= done_s < self.stall_to_s:
            done_s = self.stall_to_s
        self.time.at(done_s, lambda: on_done(self.status))


def test_a_stall_shows_in_the_percentiles_of_the_open_loop_and_not_of_the_closed_one() -> None:
    """A server stalls for one of ten seconds. A user who comes at random waits half a second on average in that time,
    so that a tenth of all requests should be slow; a single user of the closed loop just asks less."""
    time = VirtualTime()
    server = Server(time, stall_from_s=4.0, stall_to_s=5.0)
    opened = OpenLoop(server.send, time, rate_per_s=1000).run(Extent(0, duration_s=10)).answered
    assert opened.count == 10_000
    assert opened.percentile_s(50) == pytest.approx(0.001, rel=0.01)
    # The slowest tenth waited evenly from 0 to 1 s: the slowest hundredth at least 0.9 s.
    assert opened.percentile_s(99) == pytest.approx(0.9, abs=0.01)
    assert opened.percentile_s(95) == pytest.approx(0.5, abs=0.01)
    assert opened.max_s == pytest.approx(1.0, abs=0.01)

    time = VirtualTime()
    server = Server(time, stall_from_s=4.0, stall_to_s=5.0)
    closed = ClosedLoop(server.send, time, concurrency=1).run(Extent(0, duration_s=10)).answered
    assert closed.percentile_s(99.9) == pytest.approx(0.001, rel=0.01)
    assert closed.max_s == pytest.approx(1.0, abs=0.01)


def test_a_generator_that_is_held_up_counts_the_delay_too() -> None:
    """Sending the hundredth request blocks for a second: those after it start late, and users would have waited."""
    time = VirtualTime()
    server = Server(time)

    def send(on_done: Callable[[str], None]) -> None:
        if len(server.asked_s) == 100:
            time.time_s += 1.0
        server.send(on_done)

    record = OpenLoop(send, time, rate_per_s=100).run(Extent(0, requests=1000))
    assert record.total == 1000
    assert record.late.max_s == pytest.approx(0.99, abs=0.001)
    assert record.answered.max_s == pytest.approx(1.001, abs=0.001)
    # A hundred of a thousand were late.
    assert record.answered.percentile_s(89) == pytest.approx(0.001, rel=0.01)
    assert record.answered.percentile_s(91) > 0.05


def test_a_bound_on_requests_under_way_makes_the_open_loop_wait_but_not_forget() -> None:
    time = VirtualTime()
    server = Server(time, stall_from_s=0.0, stall_to_s=2.0)
    record = OpenLoop(server.send, time, rate_per_s=100, max_under_way=10).run(Extent(0, duration_s=1))
    # Ten are sent, and the eleventh is the one that waits.
    assert sum(asked_s < 2.0 for asked_s in server.asked_s) == 10
    assert record.total == 100
    assert record.answered.percentile_s(1) >= 1.0


def test_the_open_loop_keeps_its_rate_whatever_the_answers_take() -> None:
    time = VirtualTime()
    server = Server(time, stall_from_s=0.0, stall_to_s=100.0)
    OpenLoop(server.send, time, rate_per_s=4).run(Extent(0, requests=5))
    assert server.asked_s == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_the_closed_loop_keeps_exactly_so_many_under_way() -> None:
    time = VirtualTime()
    server = Server(time)
    under_way = seen = 0

    def send(on_done: Callable[[str], None]) -> None:
        nonlocal under_way, seen
        under_way += 1
        seen = max(seen, under_way)

        def done(status: str) -> None:
            nonlocal under_way
            under_way -= 1
            on_done(status)

        server.send(done)

    record = ClosedLoop(send, time, concurrency=8).run(Extent(0, requests=100))
    assert (record.total, seen, under_way) == (100, 8, 0)


def test_warm_up_is_left_out_of_every_figure() -> None:
    time = VirtualTime()
    server = Server(time, stall_from_s=0.0, stall_to_s=0.5)
    record = ClosedLoop(server.send, time, concurrency=1).run(Extent(1.0, requests=50))
    assert record.total == record.answered.count == 50
    assert len(server.asked_s) > 500
    assert record.answered.max_s == pytest.approx(0.001)
    assert record.last_s - record.from_s == pytest.approx(0.05, abs=0.002)

    time = VirtualTime()
    server = Server(time, stall_from_s=0.0, stall_to_s=0.5)
    assert OpenLoop(server.send, time, rate_per_s=100).run(Extent(1.0, duration_s=2)).total == 200
    assert len(server.asked_s) == 300


def test_failures_are_counted_by_status_and_as_slower_than_any_answer() -> None:
    time = VirtualTime()
    server = Server(time)

    def send(on_done: Callable[[str], None]) -> None:
        status = "UNAVAILABLE" if len(server.asked_s) % 50 == 0 else "OK"
        server.send(lambda _: on_done(status))

    record = ClosedLoop(send, time, concurrency=1).run(Extent(0, requests=1000))
    assert record.errors == {"UNAVAILABLE": 20}
    assert record.answered.count == 980
    assert record.answered.percentile_s(99) == pytest.approx(0.001, rel=0.01)
    assert record.percentile_with_failures_s(99) == float("inf")
    assert record.percentile_with_failures_s(98) == pytest.approx(0.001, rel=0.01)


def test_thousands_of_immediate_failures_do_not_nest() -> None:
    time = VirtualTime()
    record = ClosedLoop(lambda on_done: on_done("UNAVAILABLE"), time, concurrency=2).run(Extent(0, requests=20_000))
    assert record.errors == {"UNAVAILABLE": 20_000}


@pytest.mark.parametrize("workers", [1, 4])
def test_answers_from_other_threads_are_all_counted(workers: int) -> None:
    """The real thing in small: answers come from threads, and race with `send` returning."""
    asked: queue.SimpleQueue[Callable[[str], None] | None] = queue.SimpleQueue()

    def answer() -> None:
        while (on_done := asked.get()) is not None:
            on_done("OK")

    threads = [threading.Thread(target=answer) for _ in range(workers)]
    for thread in threads:
        thread.start()
    record = ClosedLoop(asked.put, RealTime(), concurrency=16).run(Extent(0, requests=3000))
    for _ in threads:
        asked.put(None)
    for thread in threads:
        thread.join()
    assert record.by_status == {"OK": 3000}
    assert record.answered.count == 3000
