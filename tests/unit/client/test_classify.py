"""Classifying: order, batches, bounds, broken pictures, and leaving early."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from pixelserve.client import ClosedError, NotFound, PictureError, ResourceExhausted, SettingsError, batching
from pixelserve.v1 import classifier_pb2 as pb

WAIT_S = 30
# A deadline longer than any test, so calls end only for the tested reason.
LONG_S = 7200.0


def numbered(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


def labels(predictions: Any) -> list[str]:
    return [prediction.label for prediction in predictions]


def test_one_picture_gives_one_prediction(connect: Callable[..., Any], fake: Any) -> None:
    prediction = connect(fake.address).classify(b"7", model="m", version="3", top_k=2, inversion="auto")
    assert labels(prediction.classes) == ["7", "1"]
    assert (prediction.label, prediction.probability, prediction.classes[0].index) == ("7", 0.75, 7)
    assert (prediction.model, prediction.version, prediction.source, prediction.error) == ("m", "3", None, "")
    [request] = fake.requests
    assert (request.model, request.version, request.top_k) == ("m", "3", 2)
    assert request.inversion == pb.INVERSION_AUTO


def test_a_score_is_not_a_probability(connect: Callable[..., Any], fake: Any) -> None:
    scores = [pb.Class(label="cat", index=1, score=21.5), pb.Class(label="dog", score=-3)]
    result = pb.Result(classes=scores)
    fake.script.append(pb.ClassifyResponse(model="m", version="1", output_kind="scores", results=[result]))
    prediction = connect(fake.address).classify(b"7", model="m", top_k=2)
    assert (prediction.label, prediction.probability, prediction.output_kind) == ("cat", None, "scores")
    assert [(each.probability, each.score) for each in prediction.classes] == [(None, 21.5), (None, -3)]


def test_an_older_server_sends_a_probability_of_0_as_nothing(connect: Callable[..., Any], fake: Any) -> None:
    result = pb.Result(classes=[pb.Class(label="cat", probability=1), pb.Class(label="dog", index=1)])
    fake.script.append(pb.ClassifyResponse(model="m", version="1", results=[result]))
    prediction = connect(fake.address).classify(b"7", model="m", top_k=2)
    assert [(each.probability, each.score) for each in prediction.classes] == [(1, 1), (0, 0)]
    assert prediction.output_kind == ""


def test_a_sequence_gives_a_list_even_of_one_or_none(connect: Callable[..., Any], fake: Any) -> None:
    client = connect(fake.address)
    assert labels(client.classify([b"7"], model="m")) == ["7"]
    assert client.classify([], model="m") == []
    assert labels(client.classify((each for each in numbered(3)), model="m")) == ["0", "1", "2"]


def test_many_pictures_keep_their_order_in_batches(connect: Callable[..., Any], fake: Any) -> None:
    predictions = connect(fake.address, batch_size=8, max_in_flight=4).classify(numbered(100), model="m")
    assert labels(predictions) == [str(number) for number in range(100)]
    assert sorted(len(request.images) for request in fake.requests) == [4, *[8] * 12]


def test_no_more_requests_are_in_flight_than_allowed(connect: Callable[..., Any], fake: Any) -> None:
    # The barrier opens only when three are inside at once; the count says that there never were more.
    barrier = threading.Barrier(3)
    fake.on_classify = lambda: barrier.wait(WAIT_S)
    predictions = connect(fake.address, batch_size=2, max_in_flight=3).classify_iter(numbered(24), model="m")
    assert labels(predictions) == [str(number) for number in range(24)]
    assert fake.most_in_flight == 3


def test_an_iterable_is_taken_from_only_as_far_as_needed(connect: Callable[..., Any], fake: Any) -> None:
    taken: list[int] = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(len(taken))
            yield str(taken[-1]).encode()

    iterator = connect(fake.address, batch_size=4, max_in_flight=2).classify_iter(endless(), model="m")
    assert labels(next(iterator) for _ in range(40)) == [str(number) for number in range(40)]
    assert len(taken) <= 40 + 4 * 2
    iterator.close()


def test_a_broken_picture_among_good_ones_costs_them_nothing(
    connect: Callable[..., Any], fake: Any, tmp_path: Path
) -> None:
    (tmp_path / "good.png").write_bytes(b"7")
    pictures = [tmp_path / "good.png", str(tmp_path / "missing.png"), b"broken", tmp_path, b"5", "nul\0"]
    first, missing, broken, folder, last, nul = connect(fake.address).classify(pictures, model="m")
    assert (first.label, last.label) == ("7", "5")
    assert missing.error == "the file cannot be read: No such file or directory"
    assert folder.error == "the file cannot be read: Is a directory"
    assert broken.error == "this is not a picture"
    assert nul.error
    assert [each.source for each in (first, missing, broken)] == [str(pictures[0]), pictures[1], None]
    with pytest.raises(PictureError, match=r"missing\.png: the file cannot be read"):
        _ = missing.label
    assert len(fake.requests[0].images) == 3


def test_pictures_of_which_none_can_be_read_make_no_call(connect: Callable[..., Any], fake: Any) -> None:
    prediction = connect(fake.address).classify("missing.png", model="m")
    assert "cannot be read" in prediction.error
    assert (prediction.model, prediction.version, prediction.classes) == ("m", "", ())
    assert fake.calls == 0


def test_large_pictures_travel_in_smaller_requests(
    connect: Callable[..., Any], fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "MAX_REQUEST_BYTES", 100)
    pictures = [b"a" * 40, b"b" * 40, b"c" * 40, b"d" * 400, b"e"]
    assert [each.label[0] for each in connect(fake.address).classify(pictures, model="m")] == list("abcde")
    assert [len(request.images) for request in fake.requests] == [2, 1, 1, 1]


def test_a_picture_too_large_for_the_server_is_its_own_error(
    connect: Callable[..., Any], fake: Any, steps: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "MAX_REQUEST_BYTES", 100)
    fake.script.extend([None, steps.Fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max")])
    first, large, last = connect(fake.address).classify([b"a", b"b" * 400, b"c"], model="m")
    assert (first.label, large.error, last.label) == ("a", "larger than max", "c")


def test_several_pictures_that_a_server_has_no_room_for_are_no_pictures_error(
    connect: Callable[..., Any], fake: Any, steps: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pictures keep to the limit, and the request is a little larger than they are.
    monkeypatch.setattr(batching, "MAX_REQUEST_BYTES", 100)
    fake.script.append(steps.Fail(grpc.StatusCode.RESOURCE_EXHAUSTED))
    with pytest.raises(ResourceExhausted):
        connect(fake.address).classify([b"a" * 40, b"b" * 40], model="a model's long name")


@pytest.mark.parametrize(
    ("asked", "message"),
    [({"inversion": "sometimes"}, "inversion"), ({"top_k": 0}, "top_k"), ({"top_k": 2**31}, "top_k")],
)
def test_a_wrong_question_is_refused_when_it_is_asked(
    asked: dict[str, Any], message: str, connect: Callable[..., Any], fake: Any
) -> None:
    client = connect(fake.address)
    with pytest.raises(ValueError, match=message):
        client.classify(b"7", model="m", **asked)
    with pytest.raises(ValueError, match=message):
        client.classify_iter([b"7"], model="m", **asked)
    with pytest.raises(SettingsError, match="timeout_s"):
        client.classify(b"7", model="m", timeout_s=0)


def test_other_objects_than_pictures_are_refused(connect: Callable[..., Any], fake: Any) -> None:
    client = connect(fake.address)
    with pytest.raises(TypeError, match="got int"):
        client.classify([b"7", 7], model="m")
    with pytest.raises(TypeError, match="not iterable"):
        client.classify(7, model="m")


def test_closing_ends_a_call_under_way(connect: Callable[..., Any], fake: Any, steps: Any) -> None:
    """A call is at the server.

    1. It arrives and is held. 2. Another thread closes the client. 3. It ends here and is cancelled there.
    """
    fake.script.append(hold := steps.Hold())
    client = connect(fake.address, timeout_s=LONG_S)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.classify, b"7", model="m")
        assert hold.arrived.wait(WAIT_S)
        client.close()
        with pytest.raises(ClosedError):
            call.result(WAIT_S)
    assert hold.left.wait(WAIT_S)


def test_closing_ends_an_iteration_under_way(connect: Callable[..., Any], fake: Any, steps: Any) -> None:
    """One request of many is at the server.

    1. The second batch is held. 2. Another thread closes the client. 3. The iteration ends, the batch is cancelled.
    """
    fake.script.extend([None, hold := steps.Hold()])
    client = connect(fake.address, batch_size=1, max_in_flight=1, timeout_s=LONG_S)
    with ThreadPoolExecutor(1) as pool:
        iteration = pool.submit(list, client.classify_iter(numbered(9), model="m"))
        assert hold.arrived.wait(WAIT_S)
        client.close()
        with pytest.raises(ClosedError):
            iteration.result(WAIT_S)
    assert hold.left.wait(WAIT_S)
    assert fake.calls == 2


def test_closing_ends_a_wait_between_attempts(connect: Callable[..., Any], fake: Any, steps: Any) -> None:
    """A call waits for its next attempt.

    1. It is told to come back in an hour. 2. The client is closed. 3. The call ends now.
    """
    fake.script.append(steps.Fail(grpc.StatusCode.UNAVAILABLE, pushback_ms="3600000"))
    client = connect(fake.address, timeout_s=LONG_S)
    with ThreadPoolExecutor(1) as pool:
        waiting = threading.Event()
        fake.on_classify = waiting.set
        call = pool.submit(client.classify, b"7", model="m")
        assert waiting.wait(WAIT_S)
        client.close()
        with pytest.raises(ClosedError):
            call.result(WAIT_S)


def test_leaving_an_iteration_cancels_what_is_under_way(connect: Callable[..., Any], fake: Any, steps: Any) -> None:
    """The loop is left with a request at the server.

    1. The first batch is answered, the second held. 2. The loop is left. 3. The second is cancelled at the server.
    """
    fake.by_picture[b"1"] = hold = steps.Hold()
    client = connect(fake.address, batch_size=1, max_in_flight=2, timeout_s=LONG_S)
    iterator = client.classify_iter(numbered(9), model="m")
    assert next(iterator).label == "0"
    assert hold.arrived.wait(WAIT_S)
    iterator.close()
    assert hold.left.wait(WAIT_S)
    assert client.classify(b"7", model="m").label == "7"


def test_a_request_that_fails_ends_the_iteration_and_cancels_the_rest(
    connect: Callable[..., Any], fake: Any, steps: Any
) -> None:
    """One request of several fails.

    1. The second batch is held. 2. The first one fails. 3. The error is raised. 4. The second is cancelled.
    """
    hold = steps.Hold()
    failure = steps.Fail(grpc.StatusCode.NOT_FOUND, after=hold.arrived)
    fake.by_picture = {b"0": failure, b"1": hold}
    client = connect(fake.address, batch_size=1, max_in_flight=2, timeout_s=LONG_S)
    with pytest.raises(NotFound):
        client.classify(numbered(9), model="m")
    assert hold.left.wait(WAIT_S)


def test_a_closed_client_says_so(connect: Callable[..., Any], fake: Any) -> None:
    client = connect(fake.address)
    client.classify([b"7"], model="m")
    client.close()
    client.close()
    for call in (lambda: client.classify(b"7", model="m"), lambda: client.classify([b"7"], model="m"), client.models):
        with pytest.raises(ClosedError):
            call()
