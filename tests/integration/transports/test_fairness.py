"""A sender is its token or, without tokens, its connection. A full queue sheds the sender with the most requests."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

TIMEOUT_S = 30
ROOM = 4
"""Requests that may wait for the model `crowded`, which computes none of them."""
TENSOR = {"name": "values", "datatype": "FP32", "shape": [1, 4], "data": [0, 1, 2, 3]}


@pytest.fixture
def greedy(served: Any, make_request: Any, eventually: Any) -> Iterator[list[Any]]:
    """The calls of one connection that fill the queue, in their order."""
    stub, calls = served.stub(), []
    for number in range(ROOM):
        calls.append(stub.ModelInfer.future(make_request("crowded", id=str(number)), timeout=TIMEOUT_S))
        eventually(lambda waiting=number + 1: served.pending("crowded") == waiting)
    yield calls
    for call in calls:
        call.cancel()
    eventually(lambda: served.pending("crowded") == 0)


def is_full(error: Any) -> bool:
    return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "grpc-retry-pushback-ms" in dict(
        error.trailing_metadata()
    )


def test_another_connection_gets_the_place_of_the_newest_request_and_the_same_token_does_not(
    served: Any, greedy: list[Any], make_request: Any
) -> None:
    other = served.stub().ModelInfer.future(make_request("crowded"), timeout=TIMEOUT_S)
    loses = other if served.security.token else greedy[-1]
    assert is_full(loses.exception(timeout=TIMEOUT_S))
    assert sum(call.done() for call in (*greedy, other)) == 1
    assert served.pending("crowded") == ROOM
    other.cancel()


def test_a_stream_is_of_its_connection_too(served: Any, greedy: list[Any], make_request: Any, eventually: Any) -> None:
    request = make_request("crowded")
    stream = served.stub().ModelStreamInfer(iter([request] * 10), timeout=TIMEOUT_S)
    if served.security.token:
        assert next(stream).error_message.startswith("RESOURCE_EXHAUSTED")
    else:
        # Two each; further requests of the stream are refused.
        eventually(lambda: sum(call.done() for call in greedy) == ROOM // 2)
        assert [call.done() for call in greedy] == [False, False, True, True]
    stream.cancel()


def test_an_http_request_is_of_its_connection_too(served: Any, greedy: list[Any]) -> None:
    # In microseconds; nothing else would end its wait.
    request = {"inputs": [TENSOR], "parameters": {"timeout": 300_000}}
    answer = served.http("/v2/models/crowded/infer", request)
    assert answer.status == (429 if served.security.token else 504)
    if not served.security.token:
        assert is_full(greedy[-1].exception(timeout=TIMEOUT_S))
