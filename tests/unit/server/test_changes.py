"""Changes of models: in order, one at a time, and never blocked by one that hangs."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from pixelserve_server.errors import QueueFull
from pixelserve_server.repository import changes as changes_module
from pixelserve_server.repository.changes import ChangeQueue

PATIENCE_S = 30
EVER = 1e9


class Held:
    """A change that ends when it is told to."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.end = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.end.wait(PATIENCE_S)
        return "done"


@pytest.fixture
def hold() -> Iterator[Callable[[], Held]]:
    """Makes changes that hang, and ends them after the test."""
    made: list[Held] = []

    def make() -> Held:
        made.append(Held())
        return made[-1]

    yield make
    for each in made:
        each.end.set()


def test_a_change_returns_or_raises_to_who_asked_for_it() -> None:
    queue = ChangeQueue()
    assert queue.submit("a", lambda: 5).result(PATIENCE_S) == 5

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        queue.submit("a", fail).result(PATIENCE_S)


def test_different_models_take_turns_while_none_takes_long(hold: Callable[[], Held]) -> None:
    queue, first, second = ChangeQueue(EVER), hold(), hold()
    queue.submit("a", first)
    assert first.begun.wait(PATIENCE_S)
    done = queue.submit("b", second)
    # Only a faulty change would start in this time.
    assert not second.begun.wait(0.2)
    first.end.set()
    assert second.begun.wait(PATIENCE_S)
    second.end.set()
    assert done.result(PATIENCE_S) == "done"


def test_changes_that_never_end_hold_up_no_other_model(hold: Callable[[], Held]) -> None:
    queue = ChangeQueue(0)
    stuck = [hold() for _ in range(3)]
    for index, each in enumerate(stuck):
        queue.submit(f"endless {index}", each)
        assert each.begun.wait(PATIENCE_S)
    assert [queue.submit(name, lambda: "made").result(PATIENCE_S) for name in "abc"] == ["made"] * 3


def test_others_begin_when_a_change_is_late(hold: Callable[[], Held]) -> None:
    """Timeline: 1. a change hangs; 2. two others wait; 3. it is late, which nothing but the clock says; 4. both are
    made."""
    queue, endless = ChangeQueue(0.2), hold()
    queue.submit("endless", endless)
    waiting = [queue.submit(name, lambda: "made") for name in "ab"]
    assert [each.result(PATIENCE_S) for each in waiting] == ["made", "made"]


def test_a_models_changes_keep_their_order_however_long_they_take(hold: Callable[[], Held]) -> None:
    queue, first = ChangeQueue(0), hold()
    order: list[int] = []
    queue.submit("a", first)
    later = [queue.submit("a", lambda number=number: order.append(number)) for number in range(20)]
    assert queue.submit("b", lambda: 1).result(PATIENCE_S) == 1
    assert order == []
    first.end.set()
    for each in later:
        each.result(PATIENCE_S)
    assert order == list(range(20))


def test_changes_that_take_too_long_are_bounded_and_more_are_refused_with_the_number(
    hold: Callable[[], Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes_module, "MAX_LATE", 3)
    queue = ChangeQueue(0)
    for index in range(3):
        stuck = hold()
        queue.submit(f"endless {index}", stuck)
        assert stuck.begun.wait(PATIENCE_S)
    with pytest.raises(QueueFull, match=r"3 models have been loading .* no more are accepted"):
        queue.submit("a", lambda: None)


def test_waiting_leaves_out_what_takes_too_long(hold: Callable[[], Held]) -> None:
    queue, endless = ChangeQueue(0.2), hold()
    changes: dict[str, Future[Any]] = {"endless": queue.submit("endless", endless)}
    changes["a"] = queue.submit("a", lambda: 1)
    queue.wait(changes)
    assert (changes["a"].done(), changes["endless"].done()) == (True, False)
    assert (queue.is_changing("endless"), queue.is_changing("a")) == (True, False)


def test_closing_cancels_waiting_changes_and_returns_whether_one_is_running(hold: Callable[[], Held]) -> None:
    queue, first = ChangeQueue(EVER), hold()
    queue.submit("a", first)
    assert first.begun.wait(PATIENCE_S)
    waiting = queue.submit("b", lambda: None)
    assert not queue.close()
    assert waiting.cancelled()
    assert queue.submit("c", lambda: None).cancelled()
    assert ChangeQueue().close()


def test_many_models_from_many_threads_each_change_once_and_in_order() -> None:
    queue, made = ChangeQueue(), {name: [] for name in "abcdefgh"}  # type: dict[str, list[int]]

    def ask(name: str) -> None:
        changes = [queue.submit(name, lambda number=number: made[name].append(number)) for number in range(50)]
        for each in changes:
            each.result(PATIENCE_S)

    askers = [threading.Thread(target=ask, args=(name,)) for name in made]
    for each in askers:
        each.start()
    for each in askers:
        each.join(PATIENCE_S)
    assert made == {name: list(range(50)) for name in "abcdefgh"}
