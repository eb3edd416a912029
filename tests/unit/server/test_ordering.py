"""The turnstile admits work in ticket order."""

import itertools
import threading
from collections.abc import Callable

import pytest

from pixelserve_server.engine.ordering import Turnstile

PATIENCE_S = 20


@pytest.mark.parametrize("arrivals", list(itertools.permutations(range(4))), ids=str)
def test_whatever_the_order_of_arrival_work_is_done_by_ticket(arrivals: tuple[int, ...]) -> None:
    turnstile, done = Turnstile(), list[int]()
    for ticket in arrivals:
        turnstile.enter(ticket, lambda ticket=ticket: done.append(ticket))
    assert done == [0, 1, 2, 3]


def test_work_is_done_as_soon_as_its_turn_has_come() -> None:
    turnstile, done = Turnstile(), list[int]()
    for ticket, so_far in ((2, []), (0, [0]), (3, [0]), (1, [0, 1, 2, 3])):
        turnstile.enter(ticket, lambda ticket=ticket: done.append(ticket))
        assert done == so_far


def test_work_waits_for_earlier_work_that_is_still_being_done() -> None:
    """Timeline: 1. a thread does the first work; 2. the second comes, and its thread leaves; 3. the first is done, and
    its thread does the second too."""
    turnstile, done = Turnstile(), list[tuple[int, threading.Thread]]()
    begun, may_end = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        assert may_end.wait(PATIENCE_S)
        done.append((0, threading.current_thread()))

    thread = threading.Thread(target=turnstile.enter, args=(0, first))
    thread.start()
    assert begun.wait(PATIENCE_S)
    turnstile.enter(1, lambda: done.append((1, threading.current_thread())))
    assert done == []
    may_end.set()
    thread.join(PATIENCE_S)
    assert done == [(0, thread), (1, thread)]


def failing(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def test_work_that_fails_blocks_no_other_work() -> None:
    turnstile, done = Turnstile(), list[int]()
    turnstile.enter(1, lambda: done.append(1))
    with pytest.raises(KeyError, match="first"):
        turnstile.enter(0, failing(KeyError("first")))
    assert done == [1]
    turnstile.enter(2, lambda: done.append(2))
    assert done == [1, 2]


def test_the_first_failure_is_raised_after_everything_that_was_ready_is_done() -> None:
    turnstile, done = Turnstile(), list[int]()
    turnstile.enter(2, lambda: done.append(2))
    turnstile.enter(1, failing(SystemExit("second")))
    with pytest.raises(KeyError, match="first"):
        turnstile.enter(0, failing(KeyError("first")))
    assert done == [2]


def test_many_threads_have_their_work_done_once_each_in_order() -> None:
    turnstile, done, tickets = Turnstile(), list[int](), 400
    barrier = threading.Barrier(4)

    def enter(own: int) -> None:
        barrier.wait(PATIENCE_S)
        for ticket in range(own, tickets, 4):
            turnstile.enter(ticket, lambda ticket=ticket: done.append(ticket))

    threads = [threading.Thread(target=enter, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert done == list(range(tickets))
