"""A call of the fast front, with a front that keeps what it is told."""

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

pytest.importorskip("pygrpc_native")

from pixelserve_server.api.status import Status
from pixelserve_server.transport.fast import _FastCall

UNAVAILABLE = Status(grpc.StatusCode.UNAVAILABLE, "no", (("grpc-retry-pushback-ms", "1"), ("retry-pushback-ms", "1")))


class Front:
    """Keeps what it is told to send."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []

    def respond(self, *answer: Any) -> None:
        self.sent.append(answer)

    fail = respond


class Waiting:
    """Waits for a call as a request does: each knows the other."""

    def __init__(self, call: _FastCall) -> None:
        self.call = call
        self.left = False
        call.on_cancel(self.cancel)

    def cancel(self) -> None:
        self.left = True


@pytest.fixture
def open_call() -> Callable[[Front], _FastCall]:
    def start(front: Any) -> _FastCall:
        calls: dict[int, _FastCall] = {}
        calls[7] = _FastCall(front, 7, None, None, calls, False)
        return calls[7]

    return start


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda call: call.reply(b"done"), id="a result"),
        pytest.param(lambda call: call.fail(UNAVAILABLE), id="a status"),
    ],
)
def test_an_answered_call_leaves_nothing_for_the_garbage_collector(
    open_call: Callable[[Front], _FastCall], answer: Callable[[_FastCall], None]
) -> None:
    call = open_call(Front())
    waiting = weakref.ref(Waiting(call))
    assert waiting() is not None
    answer(call)
    del call
    assert waiting() is None


def test_a_call_is_answered_once(open_call: Callable[[Front], _FastCall]) -> None:
    front = Front()
    call = open_call(front)
    call.reply(b"first")
    call.reply(b"again")
    call.fail(UNAVAILABLE)
    assert front.sent == [(7, b"first")]


def test_the_fronts_own_keys_are_kept_from_it(open_call: Callable[[Front], _FastCall]) -> None:
    front = Front()
    open_call(front).fail(UNAVAILABLE)
    assert front.sent == [(7, 14, "no", [("retry-pushback-ms", "1")])]


def test_whoever_asks_after_the_caller_has_left_is_told_at_once(open_call: Callable[[Front], _FastCall]) -> None:
    call = open_call(Front())
    call.cancel()
    assert Waiting(call).left


def test_a_caller_who_leaves_after_the_answer_disturbs_nobody(open_call: Callable[[Front], _FastCall]) -> None:
    call = open_call(Front())
    waiting = Waiting(call)
    call.reply(b"done")
    call.cancel()
    assert not waiting.left
