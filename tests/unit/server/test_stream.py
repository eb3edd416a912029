"""ModelStreamInfer without a transport: order, window, errors, leaving, ending."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve_server.api.admission import Admission, FailureCounts
from pixelserve_server.api.codes import StatusCode
from pixelserve_server.api.dispatch import CallGuard, Dispatcher
from pixelserve_server.api.stream import InferStreams
from pixelserve_server.errors import InvalidRequest, TooManyStreams, Unavailable

# Longer than anything here takes; a test that runs into it has failed.
PATIENCE_S = 20


def message(name: str) -> bytes:
    return pb.ModelInferRequest(id=name, model_name="m").SerializeToString()


@dataclass
class Service:
    """A ModelInfer that answers its calls on request, and the streams in front of it."""

    window: int
    max_streams: int
    calls: list[Any] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    """Which calls were told that their caller has left."""
    failure: Exception | None = None
    """The error that it raises instead."""

    def __post_init__(self) -> None:
        self.admission = Admission(10**9)
        handlers = {"/inference.GRPCInferenceService/ModelInfer": self._handle}
        dispatcher = Dispatcher(handlers, self.admission, CallGuard(str))
        self.failure_counts = FailureCounts()
        self.streams = InferStreams(
            dispatcher, self.admission, self.failure_counts, max_streams=self.max_streams, window=self.window
        )

    def _handle(self, _: bytes, call: Any) -> None:
        if self.failure is not None:
            raise self.failure
        index = len(self.calls)
        self.calls.append(call)
        call.on_cancel(lambda: self.left.append(index))

    def answer(self, *indices: int) -> None:
        for index in indices:
            self.calls[index].reply(pb.ModelInferResponse(id=str(index), model_name="m").SerializeToString())


@pytest.fixture
def serve() -> Callable[..., Service]:
    def start(window: int = 8, max_streams: int = 2) -> Service:
        return Service(window, max_streams)

    return start


class Client:
    """A transport's two sides of a stream: input and output."""

    def __init__(self, service: Service) -> None:
        self._changed = threading.Event()
        self.stream = service.streams.open(None, on_change=self._changed.set)

    def send(self, *names: str) -> None:
        for name in names:
            assert self.stream.has_room
            self.stream.take(message(name))

    def answers(self) -> Iterator[pb.ModelStreamInferResponse]:
        """Yields the answers until the stream is over."""
        while True:
            self._changed.clear()
            while (answer := self.stream.next_answer()) is not None:
                yield pb.ModelStreamInferResponse.FromString(answer)
                self.stream.written()
            if self.stream.is_over:
                return
            assert self._changed.wait(PATIENCE_S)


def in_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_answers_come_in_the_order_of_their_requests(serve: Callable[..., Service]) -> None:
    service = serve()
    client = Client(service)
    client.send("0", "1", "2")
    client.stream.finish()
    service.answer(2, 0, 1)
    answers = list(client.answers())
    assert [answer.infer_response.id for answer in answers] == ["0", "1", "2"]
    assert [answer.error_message for answer in answers] == [""] * 3
    assert client.stream.status is None


def test_each_answer_is_marked_as_its_requests_last(serve: Callable[..., Service]) -> None:
    service = serve()
    client = Client(service)
    client.send("0")
    service.failure = InvalidRequest("no")
    client.send("1")
    client.stream.finish()
    service.answer(0)
    good, bad = client.answers()
    assert good.infer_response.parameters["triton_final_response"].bool_param
    assert bad.infer_response.parameters["triton_final_response"].bool_param


@pytest.mark.parametrize(
    ("sent", "name"),
    [(message("übung"), "übung"), (message(""), ""), (b"\xff\xff", ""), (b"", "")],
    ids=["with an id", "without an id", "no message", "empty"],
)
def test_an_error_says_its_code_and_the_requests_id_and_the_next_is_answered(
    serve: Callable[..., Service], sent: bytes, name: str
) -> None:
    service = serve()
    client = Client(service)
    service.failure = InvalidRequest("send another")
    client.stream.take(sent)
    service.failure = None
    client.send("0")
    client.stream.finish()
    service.answer(0)
    bad, good = client.answers()
    assert (bad.error_message, bad.infer_response.id) == ("INVALID_ARGUMENT: send another", name)
    assert (good.error_message, good.infer_response.id) == ("", "0")


def test_no_more_is_read_than_the_window_holds(serve: Callable[..., Service]) -> None:
    """Timeline: 1. two requests fill the window; 2. the first answer is there, and being written; 3. it is written, so
    that the next request may be read."""
    service = serve(window=2)
    client = Client(service)
    client.send("0", "1")
    service.answer(0, 1)
    assert not client.stream.has_room
    answers = client.answers()
    next(answers)
    assert not client.stream.has_room
    next(answers)
    assert client.stream.has_room


def test_a_client_that_leaves_cancels_what_is_not_answered(serve: Callable[..., Service]) -> None:
    service = serve()
    client = Client(service)
    client.send("0", "1", "2")
    service.answer(1)
    client.stream.close()
    assert service.left == [0, 2]
    assert list(client.answers()) == []
    # They are still answered, if only to release them.
    service.answer(0, 2)
    assert service.admission.drain(0) == 0


def test_a_departure_callback_after_the_client_has_left_is_called_at_once(serve: Callable[..., Service]) -> None:
    service = serve()
    client = Client(service)
    client.send("0")
    client.stream.close()
    told: list[bool] = []
    service.calls[0].on_cancel(lambda: told.append(True))
    assert told == [True]


def test_leaving_wakes_the_writer(serve: Callable[..., Service]) -> None:
    service = serve(window=1)
    client = Client(service)
    client.send("0")
    writer = in_background(lambda: list(client.answers()))
    client.stream.close()
    writer.join(PATIENCE_S)
    assert not writer.is_alive()


def test_one_stream_too_many_is_refused_until_another_is_closed(serve: Callable[..., Service]) -> None:
    service = serve(max_streams=2)
    first, _ = service.streams.open(None), service.streams.open(None)
    with pytest.raises(TooManyStreams, match=r"2 streams are open .*--max-infer-streams.* close one"):
        service.streams.open(None)
    first.close()
    first.close()
    service.streams.open(None)
    with pytest.raises(TooManyStreams):
        service.streams.open(None)
    # Refused before there is a call, and counted all the same.
    assert service.failure_counts.read() == {
        ("/inference.GRPCInferenceService/ModelStreamInfer", "RESOURCE_EXHAUSTED", "too_many_streams"): 2
    }


def test_a_drain_answers_what_was_accepted_refuses_the_next_and_ends_the_stream(serve: Callable[..., Service]) -> None:
    """Timeline: 1. two requests are accepted; 2. the drain begins; 3. a third comes, and nothing after it is read;
    4. the two are answered; 5. the drain is over; 6. the client gets all three and then the stream's end."""
    service = serve()
    client = Client(service)
    client.send("0", "1")
    begun = threading.Event()
    left: list[int] = []
    drain = in_background(lambda: left.append(service.admission.drain(PATIENCE_S)))
    while not service.admission.is_draining:
        begun.wait(0.001)
    client.send("2", "3")
    service.answer(0, 1)
    drain.join(PATIENCE_S)
    assert left == [0]
    answers = list(client.answers())
    assert [answer.infer_response.id for answer in answers] == ["0", "1", "2"]
    assert [answer.error_message[:11] for answer in answers] == ["", "", "UNAVAILABLE"]
    assert client.stream.status is not None
    assert client.stream.status.code is StatusCode.UNAVAILABLE
    with pytest.raises(Unavailable, match="stopping"):
        service.streams.open(None)


def test_the_end_of_all_streams_waits_until_they_are_closed(serve: Callable[..., Service]) -> None:
    service = serve()
    idle, busy = Client(service), Client(service)
    busy.send("0")
    service.answer(0)
    counts: list[int] = []

    def write(client: Client) -> None:
        counts.append(len(list(client.answers())))
        client.stream.close()

    writers = [in_background(lambda client=client: write(client)) for client in (idle, busy)]
    service.streams.end(PATIENCE_S)
    assert sorted(counts) == [0, 1]
    for writer in writers:
        writer.join(PATIENCE_S)
    for client in (idle, busy):
        assert client.stream.status is not None
        assert client.stream.status.code is StatusCode.UNAVAILABLE


def test_a_stream_that_its_client_has_finished_ends_well_also_in_a_drain(serve: Callable[..., Service]) -> None:
    service = serve()
    client = Client(service)
    client.stream.finish()
    client.stream.end()
    assert client.stream.status is None


def test_a_stream_that_opens_at_the_moment_of_the_end_is_ended_or_refused(serve: Callable[..., Service]) -> None:
    """Timeline: 1. a stream passes the check of its token; 2. all streams are ended, while the server has not begun to
    refuse; 3. the stream is refused, since no one would end it."""
    service = serve()

    class Authorizer:
        def authorize_stream(self, *_: object) -> None:
            service.streams.end(0)

    service.streams._authorizer = Authorizer()  # type: ignore[assignment]  # only this is asked of it
    with pytest.raises(Unavailable, match="stopping"):
        service.streams.open(None)
