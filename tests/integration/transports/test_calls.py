"""Calls over every transport: metadata, deadlines, callers that leave, and thousands at once."""

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb

TIMEOUT_S = 60
METHOD = "/inference.GRPCInferenceService/ModelInfer"

Refusal = Callable[[Callable[[], object]], Any]


@pytest.fixture(scope="module")
def stub(served: Any) -> Any:
    return served.stub()


def numbered(make_request: Any, number: int, model: str = "doubler") -> pb.ModelInferRequest:
    """Returns a request whose id and values are a number."""
    return make_request(model, raw=[np.full((1, 4), number, np.float32).tobytes()], id=str(number))


def is_answer(answer: pb.ModelInferResponse, number: int) -> bool:
    values = np.frombuffer(answer.raw_output_contents[0], "<f4").tolist()
    return bool(answer.id == str(number) and values == [2 * number] * 4)


def test_metadata_of_every_kind_is_taken(stub: Any, make_request: Any) -> None:
    metadata = [
        ("x-plain", "a value, with commas"),
        ("x-plain", "twice"),
        ("x-empty", ""),
        ("x-every", "".join(map(chr, range(0x20, 0x7F))).strip()),
        ("x-all-bytes-bin", bytes(range(256))),
        ("x-none-bin", b""),
        ("x-one-bin", b"\x00"),
        ("traceparent", f"00-{'1' * 32}-{'2' * 16}-00"),
        ("tracestate", "a=1,b=2"),
    ]
    assert stub.ModelInfer(make_request(id="1"), timeout=TIMEOUT_S, metadata=metadata).id == "1"


def test_metadata_of_seven_kibibytes_is_taken(stub: Any, make_request: Any) -> None:
    metadata = [(f"x-{number}", "v" * 1000) for number in range(7)]
    assert stub.ModelInfer(make_request(id="1"), timeout=TIMEOUT_S, metadata=metadata).id == "1"


def test_a_deadline_that_passes_ends_the_call_and_drops_its_work(
    served: Any, stub: Any, make_request: Any, refusal: Refusal, eventually: Any
) -> None:
    error = refusal(lambda: stub.ModelInfer(make_request("roomy"), timeout=0.2))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: served.pending("roomy") == 0)


def test_callers_who_leave_cost_their_neighbours_nothing(served: Any, make_request: Any, eventually: Any) -> None:
    """Three times on one connection: 1. 60 requests wait for company and 60 others are sent; 2. the first 60 leave;
    3. all others are answered. In the end nothing waits any more. (h2corn takes 200 in ten seconds for an attack.)"""
    stub = served.stub()
    stub.ServerLive(pb.ServerLiveRequest(), timeout=TIMEOUT_S)
    for _ in range(3):
        leaving = [stub.ModelInfer.future(make_request("roomy"), timeout=TIMEOUT_S) for _ in range(60)]
        others = [stub.ModelInfer.future(numbered(make_request, n), timeout=TIMEOUT_S) for n in range(60)]
        for call in leaving:
            call.cancel()
        assert all(is_answer(call.result(), number) for number, call in enumerate(others))
    eventually(lambda: served.pending("roomy") == 0)


@pytest.mark.slow
@pytest.mark.parametrize("is_new", [True, False], ids=["new connection", "connection in use"])
def test_two_thousand_calls_at_once_on_one_channel_get_each_its_answer(
    served: Any, make_request: Any, is_new: bool
) -> None:
    stub = served.stub()
    if not is_new:
        stub.ServerLive(pb.ServerLiveRequest(), timeout=TIMEOUT_S)
    calls = [stub.ModelInfer.future(numbered(make_request, number), timeout=TIMEOUT_S) for number in range(2000)]
    assert all(is_answer(call.result(), number) for number, call in enumerate(calls))


def test_of_several_messages_to_a_unary_method_the_first_is_answered_or_none(served: Any, make_request: Any) -> None:
    messages = [make_request(id=str(number)).SerializeToString() for number in range(3)]
    call = served.channel().stream_unary(METHOD, None, pb.ModelInferResponse.FromString)
    ended = call.future(iter(messages), timeout=TIMEOUT_S)
    if served.transport == "grpcio":
        # It reads the first and looks no further.
        assert ended.result().id == "0"
    else:
        assert ended.code() is grpc.StatusCode.UNIMPLEMENTED
    assert served.stub().ServerLive(pb.ServerLiveRequest(), timeout=TIMEOUT_S).live


def test_no_message_to_a_unary_method_is_an_error(served: Any, refusal: Refusal) -> None:
    error = refusal(lambda: served.channel().stream_unary(METHOD)(iter([]), timeout=TIMEOUT_S))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
