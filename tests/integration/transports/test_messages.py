"""Messages of every size, compressed or not, and streams of them."""

import queue
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb

TIMEOUT_S = 60
LIMIT_BYTES = 1 << 20
WINDOW = 4
SERVICE = "/inference.GRPCInferenceService"
COMPRESSIONS = [grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate]

Refusal = Callable[[Callable[[], object]], Any]


@pytest.fixture(scope="module")
def channel(served: Any) -> grpc.Channel:
    return served.channel()


@pytest.fixture
def infer(channel: grpc.Channel) -> Callable[..., pb.ModelInferResponse]:
    """Sends a serialized ModelInferRequest."""
    method = channel.unary_unary(f"{SERVICE}/ModelInfer", None, pb.ModelInferResponse.FromString)
    return lambda message, **options: method(message, timeout=TIMEOUT_S, **options)


def request_of(size_bytes: int) -> bytes:
    """Returns a request of exactly this size for the largest of its numbers, which is its last: 7."""

    def made(width: int, id_length: int) -> bytes:
        values = np.append(np.random.default_rng(width).random(width - 1, np.float32), np.float32(7))
        request = pb.ModelInferRequest(model_name="largest", id="i" * id_length, raw_input_contents=[values.tobytes()])
        request.inputs.add(name="x", datatype="FP32", shape=[1, width])
        return request.SerializeToString()

    width = (size_bytes - 100) // 4
    message = made(width, size_bytes - len(made(width, 1)) + 1)
    assert len(message) == size_bytes
    return message


def is_seven(answer: pb.ModelInferResponse) -> bool:
    return bool(answer.raw_output_contents[0] == np.float32(7).tobytes())


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda each: each.name)
@pytest.mark.parametrize(
    "size_bytes", [200, 16 * 1024, 16 * 1024 + 1, 65_535, 65_536, LIMIT_BYTES - 1, LIMIT_BYTES], ids="{:,}".format
)
def test_a_message_up_to_the_limit_is_taken(infer: Any, size_bytes: int, compression: grpc.Compression) -> None:
    assert is_seven(infer(request_of(size_bytes), compression=compression))


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda each: each.name)
@pytest.mark.parametrize("size_bytes", [LIMIT_BYTES + 1, 3 * LIMIT_BYTES], ids="{:,}".format)
def test_a_message_above_the_limit_is_refused_by_the_size_that_it_has(
    served: Any, infer: Any, refusal: Refusal, size_bytes: int, compression: grpc.Compression
) -> None:
    error = refusal(lambda: infer(request_of(size_bytes), compression=compression))
    is_too_large(served, error)
    # The connection lives on.
    assert is_seven(infer(request_of(200)))


@pytest.mark.parametrize("compression", COMPRESSIONS[1:], ids=lambda each: each.name)
def test_a_small_message_that_becomes_a_large_one_is_refused(
    served: Any, infer: Any, refusal: Refusal, compression: grpc.Compression
) -> None:
    """Compressed, it has some ten thousand bytes."""
    request = pb.ModelInferRequest(model_name="largest", raw_input_contents=[bytes(10 * LIMIT_BYTES)])
    is_too_large(served, refusal(lambda: infer(request.SerializeToString(), compression=compression)))


def is_too_large(served: Any, error: Any) -> None:
    """Fails unless a message was refused for its size, in our words where the transport lets us choose them."""
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    if served.transport != "grpcio":
        assert "1,048,576" in error.details()
        assert "--max-message-mib" in error.details()


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda each: each.name)
def test_a_message_of_no_bytes_is_a_message(channel: grpc.Channel, compression: grpc.Compression) -> None:
    live = channel.unary_unary(f"{SERVICE}/ServerLive", None, pb.ServerLiveResponse.FromString)
    assert live(b"", timeout=TIMEOUT_S, compression=compression).live


def test_an_answer_of_no_bytes_is_an_answer(channel: grpc.Channel) -> None:
    ready = channel.unary_unary(f"{SERVICE}/ModelReady")
    assert ready(pb.ModelReadyRequest(name="none").SerializeToString(), timeout=TIMEOUT_S) == b""


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda each: each.name)
def test_bytes_that_are_no_message_are_refused(infer: Any, refusal: Refusal, compression: grpc.Compression) -> None:
    error = refusal(lambda: infer(b"\xff\xff", compression=compression))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "the request is not a ModelInferRequest" in error.details()


class Stream:
    """A stream whose requests are sent one by one."""

    def __init__(self, channel: grpc.Channel, **options: Any) -> None:
        self._requests: queue.Queue[bytes | None] = queue.Queue()
        method = channel.stream_stream(f"{SERVICE}/ModelStreamInfer", None, pb.ModelStreamInferResponse.FromString)
        self.call = method(iter(self._requests.get, None), **({"timeout": TIMEOUT_S} | options))

    def send(self, request: pb.ModelInferRequest | bytes) -> None:
        self._requests.put(request if isinstance(request, bytes) else request.SerializeToString())

    def finish(self) -> list[pb.ModelStreamInferResponse]:
        """Sends no more, and returns what comes until the stream ends well."""
        self._requests.put(None)
        rest = list(self.call)
        assert self.call.code() is grpc.StatusCode.OK
        return rest

    def close(self) -> None:
        self._requests.put(None)
        self.call.cancel()


@pytest.fixture
def open_stream(channel: grpc.Channel) -> Iterator[Callable[..., Stream]]:
    streams: list[Stream] = []

    def start(**options: Any) -> Stream:
        streams.append(Stream(channel, **options))
        return streams[-1]

    yield start
    for stream in streams:
        stream.close()


def test_a_stream_answers_in_order(open_stream: Any, make_request: Any) -> None:
    stream = open_stream()
    for number in range(1000):
        stream.send(make_request(id=str(number), **({"model": "none"} if number % 100 == 50 else {})))
    answers = stream.finish()
    assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(1000)]
    assert [n for n, answer in enumerate(answers) if answer.error_message] == list(range(50, 1000, 100))


def test_a_stream_answers_each_request_before_the_next_is_sent(open_stream: Any, make_request: Any) -> None:
    stream = open_stream()
    for number in range(20):
        stream.send(make_request(id=str(number)))
        assert next(stream.call).infer_response.id == str(number)
    assert stream.finish() == []


def test_a_stream_without_requests_ends_well(open_stream: Any) -> None:
    assert open_stream().finish() == []


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda each: each.name)
def test_a_streams_messages_may_be_compressed_and_as_large_as_any(
    open_stream: Any, compression: grpc.Compression
) -> None:
    stream = open_stream(compression=compression)
    for _ in range(3):
        stream.send(request_of(LIMIT_BYTES))
    assert [len(answer.infer_response.outputs) for answer in stream.finish()] == [1, 1, 1]


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda each: each.name)
def test_a_streams_message_above_the_limit_ends_it_and_no_other(
    served: Any, open_stream: Any, make_request: Any, refusal: Refusal, compression: grpc.Compression
) -> None:
    stream, other = open_stream(compression=compression), open_stream()
    stream.send(request_of(LIMIT_BYTES + 1))
    error = refusal(lambda: next(stream.call))
    is_too_large(served, error)
    other.send(make_request())
    assert len(other.finish()) == 1


def test_a_stream_reads_no_more_than_its_window_and_leaving_drops_it(
    served: Any, open_stream: Any, infer: Any, make_request: Any, eventually: Any
) -> None:
    """Timeline: 1. thirty requests that wait for company are sent, and as many as the window are read; 2. others are
    answered, and still no more are read; 3. the client leaves, and none is left."""
    stream = open_stream()
    for _ in range(30):
        stream.send(make_request("roomy"))
    eventually(lambda: served.pending("roomy") == WINDOW)
    for _ in range(10):
        infer(make_request().SerializeToString())
    assert served.pending("roomy") == WINDOW
    stream.close()
    eventually(lambda: served.pending("roomy") == 0)


def test_a_streams_deadline_is_that_of_the_whole_stream(
    served: Any, open_stream: Any, make_request: Any, refusal: Refusal, eventually: Any
) -> None:
    stream = open_stream(timeout=0.3)
    stream.send(make_request("roomy"))
    # The server may tell the request of its deadline just before the client gives up.
    error = refusal(lambda: list(stream.call))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: served.pending("roomy") == 0)


def test_numbers_come_back_as_they_went(infer: Any) -> None:
    values = np.random.default_rng(0).standard_normal((1, 50_000)).astype("<f4")
    request = pb.ModelInferRequest(model_name="free", raw_input_contents=[values.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=values.shape)
    for compression in COMPRESSIONS:
        answer = infer(request.SerializeToString(), compression=compression)
        assert answer.raw_output_contents[0] == values.tobytes()
