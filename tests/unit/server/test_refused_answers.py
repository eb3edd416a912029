"""An answer that there is no room for is a refusal, and counts as that only."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pixelserve_server.api.accounting import Accounting
from pixelserve_server.api.admission import Admission, FailureCounts
from pixelserve_server.api.call import Call
from pixelserve_server.api.codes import StatusCode
from pixelserve_server.api.infer_request import InferRequest
from pixelserve_server.api.status import CallStatus
from pixelserve_server.engine.request import ComputedBatch
from pixelserve_server.failures import FailureLog

METHOD = "/test.Service/Infer"
NO_ROOM = CallStatus(StatusCode.RESOURCE_EXHAUSTED, "too many bytes are unanswered")


class Refusing(Call):
    """A call whose answers have no room."""

    def __init__(self) -> None:
        super().__init__(None)
        self.sent: list[bytes | CallStatus] = []

    def claim(self) -> bool:
        return not self.sent

    def hold(self, message: bytes) -> CallStatus | None:
        return NO_ROOM

    def send(self, message: bytes) -> None:
        self.sent.append(message)

    def send_status(self, status: CallStatus) -> None:
        self.sent.append(status)


@pytest.fixture
def admission() -> Admission:
    return Admission(100)


def test_a_refused_answer_is_one_failure_and_no_reply(admission: Admission) -> None:
    failures, call = FailureCounts(), Refusing()
    call.begin(METHOD, Accounting(admission, failures, None), 0, None)
    admission.admit(call, 10)
    call.reply(b"large")
    assert call.sent == [NO_ROOM]
    assert list(failures.read().values()) == [1]
    assert (admission.replies.total(), admission.unanswered) == (0, 0)


class Plan:
    """A plan whose answers are the calls' numbers."""

    rows = 1
    waits_specially = wants_timings = False
    loaded = SimpleNamespace(name="model", version=1)

    def encode_run(self, id_fields: list[bytes], batch: ComputedBatch, first_row: int) -> list[bytes]:
        return id_fields


@pytest.mark.parametrize("refused", [(1,), (0, 2), (0, 1, 2)], ids=str)
def test_an_answer_without_room_is_refused_and_the_others_are_sent(
    recorded_call: Callable[..., Any], refused: tuple[int, ...]
) -> None:
    admission, failures = Admission(1000), FailureCounts()
    listener = Accounting(admission, failures, None)
    plan: Any = Plan()
    layout: Any = None
    calls = [recorded_call() for _ in range(3)]
    requests = []
    for number, call in enumerate(calls):
        call.begin(METHOD, listener, 0, None)
        admission.admit(call, 10)
        call.hold = lambda message, is_refused=number in refused: NO_ROOM if is_refused else None
        call.post, call.flush = call.replies.append, lambda: None
        requests.append(InferRequest(call, plan, str(number).encode(), 0, layout, ()))
    batch = ComputedBatch({"y": np.zeros((3, 1), np.float32)}, 3, is_alone=False)
    InferRequest.succeed_all(requests, batch, FailureLog(None))
    kept = [number for number in range(3) if number not in refused]
    assert [call.replies for call in calls] == [[str(each).encode()] if each in kept else [] for each in range(3)]
    assert [call.failures for call in calls] == [[] if each in kept else [NO_ROOM] for each in range(3)]
    assert (admission.unanswered, admission.excess_bytes) == (0, -1000)
    assert admission.replies[METHOD] == len(kept)
    assert sum(failures.read().values()) == len(refused)
