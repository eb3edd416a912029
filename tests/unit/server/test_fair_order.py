"""The decoding order: small images before large ones, senders in turn, without starvation."""

from collections.abc import Hashable

import pytest

from pixelserve_server.imaging.fair import FairOrder, Place, Step

MUCH = 1 << 40


def place(cost: int, sender: Hashable = None, *, left: int | None = None, size_bytes: int = 0) -> Place:
    return Place(sender, Step(cost, cost if left is None else left, size_bytes))


def order_of(*places: Place) -> FairOrder[Place]:
    order: FairOrder[Place] = FairOrder()
    for each in places:
        order.add(each)
    return order


def next_of(order: FairOrder[Place], free_bytes: int = MUCH) -> Place:
    """Takes the next job, whose only step it was."""
    taken = order.take(free_bytes)
    assert taken is not None
    order.remove(taken)
    return taken


@pytest.mark.parametrize("senders", [(None, None), ("a", "b")], ids=["one sender", "two senders"])
def test_a_small_picture_goes_before_a_large_one_that_came_earlier(senders: tuple[Hashable, Hashable]) -> None:
    large, small = place(1000, senders[0]), place(10, senders[1])
    order = order_of(large, small)
    assert [next_of(order), next_of(order)] == [small, large]


@pytest.mark.parametrize("own", ["large's", "another", "new each time"])
def test_a_large_picture_waits_for_no_more_pixels_than_its_own_however_many_small_ones_come(own: str) -> None:
    large = place(1000, "large's")
    order = order_of(large)
    order.add(place(10, own))
    for number in range(10_000):
        if next_of(order) is large:
            break
        order.add(place(10, f"sender {number}" if own == "new each time" else own))
    else:
        pytest.fail("the large picture is still waiting")
    # Its own pixels times the number of senders, which is two at a time; in one sender's jobs, 64 times.
    assert 99 <= number <= (6400 if own == "large's" else 200)


@pytest.mark.parametrize("own", [False, True], ids=["of one sender", "of a sender each"])
def test_a_small_picture_never_waits_for_large_requests_from_the_first_of_them_to_the_last(own: bool) -> None:
    """Eight requests of 64 large pictures, a small one after every picture. Senders' last pictures are as due as it."""
    large = {place(1000, number if own else None, left=64_000): 64 for number in range(8)}
    order = order_of(*large)

    def take() -> Place:
        taken = order.take(MUCH)
        assert taken is not None
        if taken in large:
            large[taken] -= 1
            taken.step = Step(1000, large[taken] * 1000, 0)
        if large.get(taken):
            order.add(taken)
        else:
            order.remove(taken)
            large.pop(taken, None)
        return taken

    while large:
        take()
        small = place(1, "small" if own else None)
        order.add(small)
        is_last_round = own and all(left == 1 for left in large.values())
        assert take() is small or is_last_round
        for _ in range(len(large) + 1 if small.is_waiting else 0):
            take()
        assert not small.is_waiting


def test_of_a_large_request_each_picture_has_its_turn_between_those_of_another_sender() -> None:
    many = place(100, "many", left=6400)
    order = order_of(many)
    turns = []
    for _ in range(6):
        order.add(place(100, "one by one"))
        for _ in range(2):
            taken = order.take(MUCH)
            assert taken is not None
            turns.append(taken.sender)
            if taken is many:
                order.add(many)
            else:
                order.remove(taken)
    assert turns.count("many") == turns.count("one by one") == 6


def test_a_sender_of_many_requests_gets_no_more_pixels_than_one_of_few() -> None:
    order = order_of(*(place(100, "greedy") for _ in range(50)), *(place(100, "polite") for _ in range(5)))
    first = [next_of(order).sender for _ in range(10)]
    assert first.count("polite") == 5


def test_an_idle_sender_saves_up_no_turns() -> None:
    order = order_of(place(10, "late"))
    next_of(order)
    for _ in range(100):
        order.add(place(100, "busy"))
        next_of(order)
    for _ in range(5):
        order.add(place(100, "late"))
        order.add(place(100, "busy"))
    assert [next_of(order).sender for _ in range(10)].count("late") == 5
    assert {next_of(order).sender for order in [order_of(place(1, "x"))]} == {"x"}


def test_a_step_waits_until_its_memory_is_free() -> None:
    large = place(1000, size_bytes=100)
    order = order_of(large)
    assert order.take(99) is None
    assert order.take(100) is large


def test_what_fits_goes_before_what_does_not_up_to_its_pixels_and_then_waits_with_it() -> None:
    large = place(1000, "large's", size_bytes=100)
    order = order_of(large)
    overtaking = 0
    while True:
        order.add(place(100, f"sender {overtaking}", size_bytes=10))
        taken = order.take(50)
        if taken is None:
            break
        order.remove(taken)
        overtaking += 1
        assert overtaking < 100
    # Twenty are first in any case, because there are two senders at a time; ten more fit.
    assert overtaking <= 30
    assert next_of(order, 100) is large


def test_once_measured_a_job_takes_its_place_by_its_size() -> None:
    guessed, other = place(1, left=1), place(100)
    order = order_of(guessed, other)
    assert order.take(MUCH) is guessed
    guessed.step = Step(500, 500, 0)
    order.tell_size(guessed)
    order.add(guessed)
    assert [next_of(order), next_of(order)] == [other, guessed]


def test_a_job_that_left_while_it_waited_is_not_taken() -> None:
    left, stays = place(10), place(100)
    order = order_of(left, stays)
    order.remove(left)
    assert next_of(order) is stays
    assert order.take(MUCH) is None


def test_room_is_made_by_the_sender_with_the_most_jobs_and_only_for_one_with_two_fewer() -> None:
    greedy = [place(cost, "greedy") for cost in (10, 30, 20)]
    order = order_of(*greedy, place(10, "other"))
    assert order.last_of_greediest("new") is greedy[1]
    assert order.last_of_greediest("other") is greedy[1]
    assert order.last_of_greediest("greedy") is None
    order.remove(greedy[1])
    assert order.last_of_greediest("other") is None
