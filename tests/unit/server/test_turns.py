"""Changes of models: in order, one at a time, and never blocked by one that hangs."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from pixelserve_server.errors import QueueFull
from pixelserve_server.repository import turns as turns_module
from pixelserve_server.repository.turns import Turns

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
    turns = Turns()
    assert turns.submit("a", lambda: 5).result(PATIENCE_S) == 5

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        turns.submit("a", fail).result(PATIENCE_S)


def test_different_models_take_turns_while_none_takes_long(hold: Callable[[], Held]) -> None:
    turns, first, second = Turns(EVER), hold(), hold()
    turns.submit("a", first)
    assert first.begun.wait(PATIENCE_S)
    done = turns.submit("b", second)
    # Only a faulty change would start in this time.
    assert not second.begun.wait(0.2)
    first.end.set()
    assert second.begun.wait(PATIENCE_S)
    second.end.set()
    assert done.result(PATIENCE_S) == "done"


def test_changes_that_never_end_hold_up_no_other_model(hold: Callable[[], Held]) -> None:
    turns = Turns(0)
    stuck = [hold() for _ in range(3)]
    for index, each in enumerate(stuck):
        turns.submit(f"endless {index}", each)
        assert each.begun.wait(PATIENCE_S)
    assert [turns.submit(name, lambda: "made").result(PATIENCE_S) for name in "abc"] == ["made"] * 3


def test_others_begin_when_a_change_is_late(hold: Callable[[], Held]) -> None:
    """Timeline: 1. a change hangs; 2. two others wait; 3. it is late, which nothing but the clock says; 4. both are
    made."""
    turns, endless = Turns(0.2), hold()
    turns.submit("endless", endless)
    waiting = [turns.submit(name, lambda: "made") for name in "ab"]
    assert [each.result(PATIENCE_S) for each in waiting] == ["made", "made"]


def test_a_models_changes_keep_their_order_however_long_they_take(hold: Callable[[], Held]) -> None:
    turns, first = Turns(0), hold()
    order: list[int] = []
    turns.submit("a", first)
    later = [turns.submit("a", lambda number=number: order.append(number)) for number in range(20)]
    assert turns.submit("b", lambda: 1).result(PATIENCE_S) == 1
    assert order == []
    first.end.set()
    for each in later:
        each.result(PATIENCE_S)
    assert order == list(range(20))


def test_changes_that_take_too_long_are_bounded_and_more_are_refused_with_the_number(
    hold: Callable[[], Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns_module, "MAX_LATE", 3)
    turns = Turns(0)
    for index in range(3):
        stuck = hold()
        turns.submit(f"endless {index}", stuck)
        assert stuck.begun.wait(PATIENCE_S)
    with pytest.raises(QueueFull, match=r"3 models have been loading .* no more are accepted"):
        turns.submit("a", lambda: None)


def test_waiting_leaves_out_what_takes_too_long(hold: Callable[[], Held]) -> None:
    turns, endless = Turns(0.2), hold()
    changes: dict[str, Future[Any]] = {"endless": turns.submit("endless", endless)}
    changes["a"] = turns.submit("a", lambda: 1)
    turns.wait(changes)
    assert (changes["a"].done(), changes["endless"].done()) == (True, False)
    assert (turns.is_changing("endless"), turns.is_changing("a")) == (True, False)


def test_closing_cancels_waiting_changes_and_returns_whether_one_is_running(hold: Callable[[], Held]) -> None:
    turns, first = Turns(EVER), hold()
    turns.submit("a", first)
    assert first.begun.wait(PATIENCE_S)
    waiting = turns.submit("b", lambda: None)
    assert not turns.close()
    assert waiting.cancelled()
    assert turns.submit("c", lambda: None).cancelled()
    assert Turns().close()


def test_many_models_from_many_threads_each_change_once_and_in_order() -> None:
    turns, made = Turns(), {name: [] for name in "abcdefgh"}  # type: dict[str, list[int]]

    def ask(name: str) -> None:
        changes = [turns.submit(name, lambda number=number: made[name].append(number)) for number in range(50)]
        for each in changes:
            each.result(PATIENCE_S)

    askers = [threading.Thread(target=ask, args=(name,)) for name in made]
    for each in askers:
        each.start()
    for each in askers:
        each.join(PATIENCE_S)
    assert made == {name: list(range(50)) for name in "abcdefgh"}
