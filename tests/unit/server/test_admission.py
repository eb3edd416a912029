"""Which calls are taken, which are unanswered, and what a drain does with them."""

import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from pixelserve_server.api.admission import Admission
from pixelserve_server.api.status import Status
from pixelserve_server.errors import QueueFull, Unavailable

STATUS = Status(grpc.StatusCode.NOT_FOUND, "no")


def test_bytes_of_unanswered_calls_are_bounded(recorded_call: Callable[..., Any]) -> None:
    admission = Admission(100)
    first = recorded_call()
    admission.admit(first, 60)
    with pytest.raises(QueueFull, match=r"60 bytes .* this one has 41, and at most 100"):
        admission.admit(recorded_call(), 41)
    admission.admit(recorded_call(), 40)
    first.reply(b"done")
    admission.admit(recorded_call(), 60)


def test_a_single_request_is_taken_whatever_its_size(recorded_call: Callable[..., Any]) -> None:
    call = recorded_call()
    Admission(100).admit(call, 1_000)
    call.reply(b"done")
    assert call.replies == [b"done"]


def test_a_call_is_answered_once_whoever_comes_first(recorded_call: Callable[..., Any]) -> None:
    call = recorded_call()
    admission = Admission(100)
    admission.admit(call, 1)
    call.reply(b"first")
    call.fail(STATUS)
    call.reply(b"again")
    assert (call.replies, call.failures, admission.replies.total()) == ([b"first"], [], 1)


def test_only_results_count_as_replied(recorded_call: Callable[..., Any]) -> None:
    admission = Admission(100)
    calls = [recorded_call(), recorded_call()]
    for call in calls:
        admission.admit(call, 1)
    calls[0].reply(b"")
    calls[1].fail(STATUS)
    assert admission.replies.total() == 1


def test_a_drain_refuses_new_calls_and_waits_for_the_taken_ones(recorded_call: Callable[..., Any]) -> None:
    """Timeline: 1. a call is taken; 2. the drain begins; 3. another call is refused; 4. the first is answered, and the
    drain ends with nothing left over."""
    admission, call = Admission(100), recorded_call()
    admission.admit(call, 1)
    left: list[int] = []
    drain = threading.Thread(target=lambda: left.append(admission.drain(60)))
    drain.start()
    while True:
        try:
            another = recorded_call()
            admission.admit(another, 1)
            another.reply(b"")
        except Unavailable:
            break
    assert not left
    call.reply(b"done")
    drain.join(60)
    assert (left, call.replies) == ([0], [b"done"])


def test_what_outlasts_the_grace_is_told_unavailable(recorded_call: Callable[..., Any]) -> None:
    admission, call = Admission(100), recorded_call()
    admission.admit(call, 1)
    assert admission.drain(0) == 1
    call.reply(b"too late")
    assert [status.code for status in call.failures] == [grpc.StatusCode.UNAVAILABLE]
    assert call.replies == []


def test_lingering_ends_when_nobody_comes_or_the_time_is_up() -> None:
    admission = Admission(100)
    admission.drain(0)
    admission.linger(quiet_s=0.0, at_most_s=60)
    admission.linger(quiet_s=60, at_most_s=0.0)


def test_bytes_that_came_by_another_way_count_until_the_call_is_answered(recorded_call: Callable[..., Any]) -> None:
    admission = Admission(100)
    first, second = recorded_call(), recorded_call()
    admission.admit(first, 10)
    # Alone, whatever the size.
    admission.add(first, 200)
    with pytest.raises(QueueFull, match=r"210 bytes .* this one has 1,"):
        admission.admit(second, 1)
    first.reply(b"done")
    admission.admit(second, 40)
    admission.admit(recorded_call(), 40)
    with pytest.raises(QueueFull, match=r"80 bytes .* this one has 21,"):
        admission.add(second, 21)
    admission.add(second, 20)
