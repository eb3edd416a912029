"""Admission of calls, calls in flight, and their drain."""

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pixelserve_server.api.accounting import Accounting
from pixelserve_server.api.admission import Admission
from pixelserve_server.api.codes import StatusCode
from pixelserve_server.api.status import CallStatus
from pixelserve_server.errors import QueueFull, Unavailable

STATUS = CallStatus(StatusCode.NOT_FOUND, "no")


@pytest.fixture
def admission() -> Admission:
    return Admission(100)


@pytest.fixture
def make_call(admission: Admission, recorded_call: Callable[..., Any]) -> Callable[[], Any]:
    """Makes calls whose ends the admission hears of."""

    def make() -> Any:
        call = recorded_call()
        call.begin("/a.Method", Accounting(admission, None, None), 0, None)
        return call

    return make


def test_bytes_of_unanswered_calls_are_bounded(admission: Admission, make_call: Callable[[], Any]) -> None:
    first = make_call()
    admission.admit(first, 60)
    with pytest.raises(QueueFull, match=r"60 bytes .* this one has 41, and at most 100"):
        admission.admit(make_call(), 41)
    admission.admit(make_call(), 40)
    first.reply(b"done")
    admission.admit(make_call(), 60)


def test_a_single_request_is_taken_whatever_its_size(admission: Admission, make_call: Callable[[], Any]) -> None:
    call = make_call()
    admission.admit(call, 1_000)
    call.reply(b"done")
    assert call.replies == [b"done"]


def test_a_call_is_answered_exactly_once(admission: Admission, make_call: Callable[[], Any]) -> None:
    call = make_call()
    admission.admit(call, 1)
    call.reply(b"first")
    call.fail(STATUS)
    call.reply(b"again")
    assert (call.replies, call.failures, admission.replies.total()) == ([b"first"], [], 1)


def test_only_results_count_as_replied(admission: Admission, make_call: Callable[[], Any]) -> None:
    calls = [make_call(), make_call()]
    for call in calls:
        admission.admit(call, 1)
    calls[0].reply(b"")
    calls[1].fail(STATUS)
    assert admission.replies.total() == 1


def test_a_drain_refuses_new_calls_and_waits_for_the_taken_ones(
    admission: Admission, make_call: Callable[[], Any]
) -> None:
    """Timeline: 1. a call is taken; 2. the drain begins; 3. another call is refused; 4. the first is answered, and the
    drain ends with nothing left over."""
    call = make_call()
    admission.admit(call, 1)
    left: list[int] = []
    drain = threading.Thread(target=lambda: left.append(admission.drain(60)))
    drain.start()
    while True:
        try:
            another = make_call()
            admission.admit(another, 1)
            another.reply(b"")
        except Unavailable:
            break
    assert not left
    call.reply(b"done")
    drain.join(60)
    assert (left, call.replies) == ([0], [b"done"])


def test_calls_that_outlast_the_grace_get_unavailable(admission: Admission, make_call: Callable[[], Any]) -> None:
    call = make_call()
    admission.admit(call, 1)
    assert admission.drain(0) == 1
    call.reply(b"too late")
    assert [status.code for status in call.failures] == [StatusCode.UNAVAILABLE]
    assert call.replies == []


def test_lingering_ends_without_calls_or_at_the_time_limit(admission: Admission) -> None:
    admission.drain(0)
    admission.linger(quiet_s=0.0, at_most_s=60)
    admission.linger(quiet_s=60, at_most_s=0.0)


def test_bytes_that_came_by_another_way_count_until_the_call_is_answered(
    admission: Admission, make_call: Callable[[], Any]
) -> None:
    first, second = make_call(), make_call()
    admission.admit(first, 10)
    # Alone, whatever the size.
    admission.add(first, 200)
    with pytest.raises(QueueFull, match=r"210 bytes .* this one has 1,"):
        admission.admit(second, 1)
    first.reply(b"done")
    admission.admit(second, 40)
    admission.admit(make_call(), 40)
    with pytest.raises(QueueFull, match=r"80 bytes .* this one has 21,"):
        admission.add(second, 21)
    admission.add(second, 20)


def test_nothing_is_counted_of_a_call_that_is_answered(admission: Admission, make_call: Callable[[], Any]) -> None:
    call = make_call()
    admission.admit(call, 100)
    call.reply(b"done")
    # Its handler may not know yet that a drain has answered it.
    call.reserve(100)
    admission.admit(make_call(), 100)


def test_an_answer_counts_as_much_as_there_is_room_beside_other_calls(
    admission: Admission, make_call: Callable[[], Any]
) -> None:
    first, second = make_call(), make_call()
    admission.admit(first, 60)
    # Alone, whatever the size.
    assert admission.hold_answer(first, 200) is None
    admission.release(200)
    admission.admit(second, 10)
    refusal = admission.hold_answer(first, 31)
    assert refusal is not None
    assert refusal.code is StatusCode.RESOURCE_EXHAUSTED
    assert re.search(r"70 bytes .* this one has 31,", refusal.message)
    assert admission.hold_answer(first, 30) is None


def test_a_call_that_was_never_taken_changes_no_count(admission: Admission, make_call: Callable[[], Any]) -> None:
    refused, taken = make_call(), make_call()
    admission.admit(taken, 100)
    with pytest.raises(QueueFull):
        admission.admit(refused, 1)
    refused.fail(STATUS)
    make_call().reply(b"a probe's")
    assert admission.replies.total() == 0
    with pytest.raises(QueueFull):
        admission.admit(make_call(), 1)
