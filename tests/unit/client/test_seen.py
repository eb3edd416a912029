"""A model's input, occlusion maps, and requests above a server's limit."""

import logging
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from pixelserve.client import InternalError, InvalidRequest
from pixelserve.v1 import classifier_pb2 as pb

SEEN = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)


def response(**result: Any) -> Any:
    best = pb.Class(label="7", index=7, probability=0.9)
    return pb.ClassifyResponse(model="m", version="1", results=[pb.Result(classes=[best], **result)])


def test_what_the_model_saw_is_an_array_of_rows_columns_and_channels(connect: Callable[..., Any], fake: Any) -> None:
    fake.script.append(response(seen=pb.RawPixels(height=2, width=3, channels=3, data=SEEN.tobytes())))
    prediction = connect(fake.address).classify(b"7", model="m", return_seen=True)
    np.testing.assert_array_equal(prediction.seen, SEEN)
    assert prediction.seen.dtype == np.uint8
    assert fake.requests[0].return_seen


def test_an_occlusion_map_is_an_array_of_rows_and_columns(connect: Callable[..., Any], fake: Any) -> None:
    fake.script.append(response(occlusion=[0.5, 0, -0.25, 1]))
    prediction = connect(fake.address).classify(b"7", model="m", occlusion=2)
    np.testing.assert_array_equal(prediction.occlusion, np.float32([[0.5, 0], [-0.25, 1]]))
    assert (fake.requests[0].occlusion, fake.requests[0].return_seen) == (2, False)


def test_neither_is_there_unless_it_is_asked_for_and_answered(connect: Callable[..., Any], fake: Any) -> None:
    client = connect(fake.address)
    # The second answer is that of a server which knows of neither.
    fake.script.extend([None, response()])
    for options in ({}, {"return_seen": True, "occlusion": 4}):
        prediction = client.classify(b"7", model="m", **options)
        assert (prediction.label, prediction.seen, prediction.occlusion) == ("7", None, None)
    assert (fake.requests[0].return_seen, fake.requests[0].occlusion) == (False, 0)


def test_each_occlusion_map_takes_a_request_of_its_own(connect: Callable[..., Any], fake: Any) -> None:
    predictions = connect(fake.address).classify_iter([b"1", b"2", b"3"], model="m", occlusion=3, return_seen=True)
    assert [prediction.label for prediction in predictions] == ["1", "2", "3"]
    assert [len(request.images) for request in fake.requests] == [1, 1, 1]


def test_predictions_are_equal_and_hashable_whatever_was_seen(connect: Callable[..., Any], fake: Any) -> None:
    seen = pb.RawPixels(height=2, width=3, channels=3, data=SEEN.tobytes())
    fake.script.extend([response(seen=seen, occlusion=[1] * 4), response()])
    client = connect(fake.address)
    first, second = (client.classify(b"7", model="m", occlusion=2, return_seen=True) for _ in range(2))
    assert {first} == {second}


@pytest.mark.parametrize("cells", [-1, 2**31])
def test_a_number_of_cells_that_no_server_takes_is_refused(connect: Callable[..., Any], fake: Any, cells: int) -> None:
    with pytest.raises(ValueError, match="occlusion must be 2 to 8 cells per side, or 0 for none"):
        connect(fake.address).classify(b"7", model="m", occlusion=cells)


@pytest.mark.parametrize(
    "damaged",
    [{"seen": pb.RawPixels(height=2, width=3, channels=3, data=b"short")}, {"occlusion": [1.0] * 5}],
    ids=["pixels", "map"],
)
def test_an_answer_of_another_size_than_it_says_is_the_servers_fault(
    connect: Callable[..., Any], fake: Any, damaged: dict[str, Any]
) -> None:
    fake.script.append(response(**damaged))
    with pytest.raises(InternalError, match="the server's answer is damaged"):
        connect(fake.address).classify(b"7", model="m", occlusion=2, return_seen=True)


@pytest.mark.parametrize(
    "message",
    [
        "the request's pictures have 9 pixels together; at most 3 are accepted (32 × --max-image-pixels): send fewer",
        "the request has 8 images; expected 1 to 3",
    ],
)
def test_a_request_of_more_than_the_server_takes_is_sent_in_halves(
    connect: Callable[..., Any], fake: Any, steps: Any, caplog: Any, message: str
) -> None:
    pictures = [*(str(number).encode() for number in range(5)), b"broken", "missing.png", b"7", b"8", b"9"]
    fake.most_images, fake.too_many = 3, steps.Fail(grpc.StatusCode.INVALID_ARGUMENT, message)
    with caplog.at_level(logging.WARNING):
        predictions = connect(fake.address, batch_size=8, max_in_flight=1).classify(pictures, model="m")
    assert [each.label if not each.error else "" for each in predictions] == [*"01234", "", "", *"789"]
    # Refused: 7 and 4. The other half of the first was made before the second was refused.
    assert [len(request.images) for request in fake.requests] == [7, 4, 2, 2, 3, 2]
    assert [record.message.split(": ")[0] for record in caplog.records] == [
        "the server refused 7 pictures in a request",
        "the server refused 4 pictures in a request",
    ]
    assert "sending at most 2 (batch_size=2 avoids this)" in caplog.records[-1].message


def test_one_picture_of_more_than_the_server_takes_is_its_own_error(
    connect: Callable[..., Any], fake: Any, steps: Any
) -> None:
    too_much = "the request's pictures have 9 pixels together; at most 3 are taken"
    fake.by_picture[b"large"] = steps.Fail(grpc.StatusCode.INVALID_ARGUMENT, too_much)
    first, large, last = connect(fake.address, batch_size=1).classify([b"1", b"large", b"3"], model="m")
    assert (first.label, large.error, last.label) == ("1", too_much, "3")


def test_a_request_that_is_wrong_otherwise_is_not_sent_again(
    connect: Callable[..., Any], fake: Any, steps: Any
) -> None:
    fake.script.append(steps.Fail(grpc.StatusCode.INVALID_ARGUMENT, "top_k is 0"))
    with pytest.raises(InvalidRequest, match="top_k is 0"):
        connect(fake.address).classify([b"1", b"2"], model="m")
    assert fake.calls == 1
