"""An answer that there is no room for is a refusal, and counts as that only."""

import pytest

from pixelserve_server.api.accounting import Accounting
from pixelserve_server.api.admission import Admission, FailureCounts
from pixelserve_server.api.call import Call
from pixelserve_server.api.codes import StatusCode
from pixelserve_server.api.status import CallStatus


class Refusing(Call):
    """A call whose answers have no room."""

    def __init__(self) -> None:
        super().__init__(None)
        self.sent: list[bytes | CallStatus] = []

    def claim(self) -> bool:
        return not self.sent

    def hold(self, message: bytes) -> CallStatus | None:
        return CallStatus(StatusCode.RESOURCE_EXHAUSTED, "full")

    def send(self, message: bytes) -> None:
        self.sent.append(message)

    def send_status(self, status: CallStatus) -> None:
        self.sent.append(status)


@pytest.fixture
def admission() -> Admission:
    return Admission(100)


def test_a_refused_answer_is_one_failure_and_no_reply(admission: Admission) -> None:
    failures, call = FailureCounts(), Refusing()
    call.begin("/m", Accounting(admission, failures, None), 0, None)
    admission.admit(call, 10)
    call.reply(b"large")
    assert [getattr(each, "code", each) for each in call.sent] == [StatusCode.RESOURCE_EXHAUSTED]
    assert list(failures.read().values()) == [1]
    assert (admission.replies.total(), admission.unanswered) == (0, 0)
