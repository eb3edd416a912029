"""ModelStreamInfer against a real server process."""

import queue
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc

METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"
TIMEOUT_S = 60
MAX_STREAMS = 2
WINDOW = 4
# Rows that the model waits for which answers only when they are there.
PATIENT_ROWS = 3


class Stream:
    """A stream whose requests are sent one by one, as bytes."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._requests: queue.Queue[bytes | None] = queue.Queue()
        self.call = channel.stream_stream(METHOD)(iter(self._requests.get, None), timeout=TIMEOUT_S)

    def send(self, request: pb.ModelInferRequest | bytes) -> None:
        self._requests.put(request if isinstance(request, bytes) else request.SerializeToString())

    def receive(self) -> pb.ModelStreamInferResponse:
        return pb.ModelStreamInferResponse.FromString(next(self.call))

    def finish(self) -> list[pb.ModelStreamInferResponse]:
        """Sends no more, and returns what comes until the stream ends well."""
        self._requests.put(None)
        rest = [pb.ModelStreamInferResponse.FromString(each) for each in self.call]
        assert self.call.code() is grpc.StatusCode.OK
        return rest

    def ending(self) -> tuple[str, str]:
        """Waits until the server has ended the stream, and nothing came before; returns the status and its message."""
        with pytest.raises(grpc.RpcError) as caught:
            next(self.call)
        return caught.value.code().name, caught.value.details()

    def close(self) -> None:
        self._requests.put(None)
        self.call.cancel()


@pytest.fixture(scope="module")
def repository(
    tmp_path_factory: pytest.TempPathFactory,
    model_writer: Callable[..., Path],
    graph_writer: Callable[..., Path],
    write_patient_model: Callable[..., None],
) -> Path:
    path = tmp_path_factory.mktemp("repository")
    model_writer(path / "doubler" / "1" / "model.onnx")
    write_patient_model(path / "patient", rows=PATIENT_ROWS)
    write_patient_model(path / "roomy", rows=100)
    return path


@pytest.fixture(scope="module")
def server(start_module_server: Callable[..., Any], repository: Path) -> Any:
    return start_module_server(
        repository,
        *("--max-message-mib", "1"),
        *("--max-infer-streams", str(MAX_STREAMS), "--stream-window", str(WINDOW)),
    )


@pytest.fixture
def channel(server: Any) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as channel:
        yield channel


@pytest.fixture
def open_stream(channel: grpc.Channel) -> Iterator[Callable[[], Stream]]:
    streams: list[Stream] = []

    def start() -> Stream:
        streams.append(Stream(channel))
        return streams[-1]

    yield start
    for stream in streams:
        stream.close()


@pytest.fixture
def pending(server: Any) -> Callable[[str], int]:
    """How many requests wait for a model."""

    def count(model: str) -> int:
        with urllib.request.urlopen(server.metrics, timeout=TIMEOUT_S) as page:
            lines = page.read().decode().splitlines()
        start = f'nv_inference_pending_request_count{{model="{model}"'
        (line,) = [line for line in lines if line.startswith(start)]
        return int(float(line.split()[-1]))

    return count


def infer(channel: grpc.Channel, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    return inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=TIMEOUT_S)


def numbered(make_request: Any, number: int, **fields: Any) -> pb.ModelInferRequest:
    """Returns a request whose id and values are a number."""
    raw = np.full((1, 4), number, dtype=np.float32).tobytes()
    return make_request(raw=[raw], id=str(number), **fields)


def doubled(answer: pb.ModelStreamInferResponse) -> list[float]:
    return np.frombuffer(answer.infer_response.raw_output_contents[0], "<f4").tolist()


def test_thousands_of_requests_on_one_stream_are_answered_in_their_order(open_stream: Any, make_request: Any) -> None:
    """Every hundredth is wrong, which costs the others nothing."""
    stream = open_stream()
    for number in range(3000):
        stream.send(numbered(make_request, number, **({"model_version": "7"} if number % 100 == 50 else {})))
    answers = stream.finish()
    assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(3000)]
    for number, answer in enumerate(answers):
        if number % 100 == 50:
            assert answer.error_message == "NOT_FOUND: model doubler has no version 7; it has 1"
        else:
            assert (answer.error_message, doubled(answer)) == ("", [2 * number] * 4)


def test_one_request_at_a_time_is_answered_before_the_next_is_sent(open_stream: Any, make_request: Any) -> None:
    stream = open_stream()
    for number in range(20):
        stream.send(numbered(make_request, number))
        assert doubled(stream.receive()) == [2 * number] * 4
    assert stream.finish() == []


def test_an_answer_that_is_there_waits_for_those_before_it(
    open_stream: Any, channel: grpc.Channel, make_request: Any
) -> None:
    """Timeline: 1. a request waits for company, and one behind it, of another model, does not; 2. the company comes;
    3. both answers, in order."""
    stream = open_stream()
    stream.send(numbered(make_request, 1, model="patient"))
    stream.send(numbered(make_request, 2))
    # Three rows in all; this returns when the first of the stream has run, too.
    infer(channel, make_request("patient", rows=PATIENT_ROWS - 1))
    answers = [stream.receive(), stream.receive()]
    assert [(answer.infer_response.id, answer.infer_response.model_name) for answer in answers] == [
        ("1", "patient"),
        ("2", "doubler"),
    ]


def test_requests_of_one_stream_are_merged(open_stream: Any, make_request: Any) -> None:
    stream = open_stream()
    for number in range(PATIENT_ROWS):
        stream.send(numbered(make_request, number, model="patient"))
    assert [answer.infer_response.id for answer in stream.finish()] == ["0", "1", "2"]


@pytest.mark.parametrize("body", [b"\xff\xff", b"\x0a\xff\xff\xff\x7f", b"\x0a\x01\xff"])
def test_bytes_that_are_no_message_get_an_error_in_their_place(
    open_stream: Any, make_request: Any, body: bytes
) -> None:
    stream = open_stream()
    stream.send(numbered(make_request, 1))
    stream.send(body)
    stream.send(numbered(make_request, 2))
    good, bad, next_good = stream.finish()
    assert bad.error_message.startswith("INVALID_ARGUMENT: the request is not a ModelInferRequest")
    assert [good.infer_response.id, next_good.infer_response.id] == ["1", "2"]


def test_a_message_over_the_limit_ends_the_stream_and_no_other(open_stream: Any, make_request: Any) -> None:
    stream, other = open_stream(), open_stream()
    stream.send(make_request(raw=[bytes(1024 * 1024)]))
    assert stream.ending()[0] == "RESOURCE_EXHAUSTED"
    other.send(numbered(make_request, 1))
    assert len(other.finish()) == 1


def test_what_triton_sends_is_taken_and_each_answer_is_marked_as_the_last(open_stream: Any, make_request: Any) -> None:
    wanted = {"triton_enable_empty_final_response": pb.InferParameter(bool_param=True)}
    stream = open_stream()
    stream.send(numbered(make_request, 1, parameters=wanted))
    (answer,) = stream.finish()
    assert answer.infer_response.parameters["triton_final_response"].bool_param
    assert doubled(answer) == [2] * 4


def test_no_more_requests_are_read_than_the_window_and_leaving_drops_them(
    open_stream: Any, channel: grpc.Channel, make_request: Any, pending: Any, eventually: Any
) -> None:
    """Timeline: 1. thirty requests that wait for company are sent, and as many as the window are read; 2. others are
    answered, and still no more are read; 3. the client leaves, and none is left."""
    stream = open_stream()
    for number in range(30):
        stream.send(numbered(make_request, number, model="roomy"))
    eventually(lambda: pending("roomy") == WINDOW)
    for _ in range(10):
        infer(channel, make_request())
    assert pending("roomy") == WINDOW
    stream.close()
    eventually(lambda: pending("roomy") == 0)


def test_one_stream_too_many_is_refused_and_unary_calls_are_answered(
    open_stream: Any, channel: grpc.Channel, make_request: Any
) -> None:
    """Timeline: 1. as many streams as may are open, and used; 2. more are refused; 3. a unary call is answered; 4. one
    stream ends; 5. another takes its place."""
    streams = [open_stream() for _ in range(MAX_STREAMS)]
    for stream in streams:
        stream.send(numbered(make_request, 1))
        stream.receive()
    for _ in range(5):
        code, details = open_stream().ending()
        assert code == "RESOURCE_EXHAUSTED"
        assert "--max-infer-streams" in details
    assert len(infer(channel, make_request()).outputs) == 1
    streams[0].finish()
    again = open_stream()
    again.send(numbered(make_request, 2))
    assert [answer.infer_response.id for answer in again.finish()] == ["2"]


def test_a_stream_without_requests_ends_well(open_stream: Any) -> None:
    assert open_stream().finish() == []


@pytest.mark.slow
def test_a_server_that_stops_answers_what_it_accepted_and_ends_its_streams(
    tmp_path: Path, start_server: Callable[..., Any], write_patient_model: Any, make_request: Any, eventually: Any
) -> None:
    """Timeline: 1. a request of one stream waits for three seconds, another stream is idle; 2. SIGTERM; 3. when calls
    are refused, another request comes; 4. the first is answered, the second refused, and both streams end; 5. exit code
    0."""
    write_patient_model(tmp_path / "patient", rows=8, delay_s=3)
    server = start_server(tmp_path)
    with grpc.insecure_channel(server.grpc) as channel:
        busy, idle = Stream(channel), Stream(channel)
        # A request for a missing model, because a valid one would wait.
        idle.send(make_request("none"))
        assert idle.receive().error_message.startswith("NOT_FOUND")
        busy.send(numbered(make_request, 1, model="patient"))
        eventually(lambda: server.pending() == 1)
        server.process.send_signal(signal.SIGTERM)
        late = server.stub()

        def is_refused() -> bool:
            call = late.ServerLive.future(pb.ServerLiveRequest(), timeout=TIMEOUT_S)
            return bool(call.code() is grpc.StatusCode.UNAVAILABLE)

        eventually(is_refused)
        busy.send(numbered(make_request, 2, model="patient"))
        assert doubled(busy.receive()) == [2] * 4
        refused = busy.receive()
        assert refused.infer_response.id == "2"
        assert refused.error_message.startswith("UNAVAILABLE: the server is stopping")
        for stream in (busy, idle):
            code, details = stream.ending()
            assert (code, "the server is stopping" in details) == ("UNAVAILABLE", True)
            stream.close()
    assert server.process.wait(TIMEOUT_S) == 0


def drive(stream: Stream, request: pb.ModelInferRequest, on_answer: Callable[[], None]) -> int:
    """Keeps some requests in flight until the server ends the stream; returns how many were answered.

    What comes together when the server has begun to refuse is refused one by one, and nothing after it.
    """
    answered = refused = 0
    for _ in range(WINDOW):
        stream.send(request)
    try:
        while True:
            answer = stream.receive()
            if answer.error_message:
                assert answer.error_message.startswith("UNAVAILABLE: the server is stopping")
                refused += 1
                continue
            assert refused == 0
            answered += 1
            on_answer()
            stream.send(request)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
    assert refused <= WINDOW
    return answered


@pytest.mark.slow
def test_a_stop_under_load_loses_no_answer(
    tmp_path: Path, start_server: Callable[..., Any], model_writer: Callable[..., Path], make_request: Any
) -> None:
    """Timeline: 1. four streams always have requests in flight; 2. SIGTERM; 3. every stream ends with UNAVAILABLE;
    4. the clients have got as many answers as the server says it gave."""
    model_writer(tmp_path / "doubler" / "1" / "model.onnx")
    for _ in range(3):
        server = start_server(tmp_path)
        enough = threading.Semaphore(0)
        with grpc.insecure_channel(server.grpc) as channel, ThreadPoolExecutor(4) as pool:
            streams = [Stream(channel) for _ in range(4)]
            driven = [pool.submit(drive, stream, make_request(), enough.release) for stream in streams]
            for _ in range(400):
                assert enough.acquire(timeout=TIMEOUT_S)
            server.process.send_signal(signal.SIGTERM)
            answered = sum(each.result(TIMEOUT_S) for each in driven)
            for stream in streams:
                stream.close()
        assert server.process.wait(TIMEOUT_S) == 0
        # Its output is read to the end.
        server.stop()
        stopped = next(event for event in server.events() if event["event"] == "stopped")
        assert (stopped["answered"], stopped["unfinished"]) == (answered, 0)
