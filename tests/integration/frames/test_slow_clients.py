"""Slow clients: silent connections, calls that are never complete, answers that are not read."""

import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from neighbours import request
from raw_http2 import (
    INFER,
    LIVE,
    PREFACE,
    Answer,
    block,
    call_headers,
    frame,
    message,
    until,
)

from pixelserve.oip import inference_pb2 as pb

pytestmark = pytest.mark.slow

MIB = 1 << 20
HEALTH = "/grpc.health.v1.Health/Check"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
GOOD = message(request(7).SerializeToString())
SOON_S = 1
"""The servers' time-outs here, instead of five and ten seconds."""
WAIT_S = 30
INITIAL_WINDOW = 4
PING = 6
HEADERS, END_HEADERS, WINDOW = 1, 4, 8

Start = Callable[..., Any]


def _knock(target: Any) -> socket.socket:
    host, _, port = target.address.rpartition(":")
    connection = socket.create_connection((host, int(port)))
    connection.settimeout(WAIT_S)
    return connection


def _has_closed(connection: socket.socket) -> bool:
    """Reads until the server closes a connection."""
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


@pytest.fixture(scope="module")
def impatient(start_module_server: Start, transport: str, repository: Path, make_target: Start) -> Any:
    """A server with short time-outs."""
    names = (
        "--handshake-timeout-s",
        "--idle-body-timeout-s",
        "--unread-answer-timeout-s",
        "--idle-connection-timeout-s",
    )
    flags = [part for name in names for part in (name, str(SOON_S))]
    return make_target(start_module_server(repository, *flags), transport)


@pytest.mark.parametrize(
    "start",
    [b"", PREFACE[:1], PREFACE[:-1], b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\nHost"],
    ids=["nothing", "a letter", "most of a preface", "TLS", "half of an HTTP/1.1 head"],
)
def test_a_connection_that_does_not_greet_is_closed(impatient: Any, start: bytes) -> None:
    with impatient.holds(growth_mib=32), ExitStack() as connections:
        knocked = [connections.enter_context(_knock(impatient)) for _ in range(20)]
        for connection in knocked:
            connection.sendall(start)
        assert all(_has_closed(connection) for connection in knocked)


def test_a_preface_that_comes_letter_by_letter_is_not_waited_for(impatient: Any) -> None:
    """Each letter comes in time; together they would take ten times as long as is allowed."""
    with impatient.holds(growth_mib=32), _knock(impatient) as connection:

        def dribble() -> Iterator[None]:
            for letter in PREFACE:
                connection.sendall(bytes([letter]))
                time.sleep(10 * SOON_S / len(PREFACE))
                yield

        with pytest.raises(OSError):  # noqa: PT011  a broken pipe, or a reset
            for _ in dribble():
                pass


@pytest.mark.parametrize("extra", [b"", b"\0\0\x08", b"\0\0\x0a\x01"], ids=["nothing", "half a head", "half a frame"])
def test_a_connection_without_calls_is_closed(impatient: Any, extra: bytes) -> None:
    if impatient.transport == "grpcio":
        pytest.skip("grpcio tells idle connections to go, and waits for them")
    with impatient.holds(growth_mib=32), _knock(impatient) as connection:
        connection.sendall(PREFACE + frame(4, 0, 0) + frame(4, 1, 0) + extra)
        assert _has_closed(connection)


def test_keepalive_pings_without_calls_are_tolerated(target: Any) -> None:
    """More of them than grpcio's default forgives, further apart than the least interval that we ask for."""
    with target.connect() as connection:
        for number in range(5):
            time.sleep(1.1)
            connection.send(frame(PING, 0, 0, number.to_bytes(8, "big")))
        assert connection.answer(connection.call(GOOD)).status == 0


def test_headers_without_an_end_are_not_waited_for(impatient: Any) -> None:
    if impatient.transport == "grpcio":
        pytest.skip("grpcio waits for them as long as the client likes: one call of one connection")
    with impatient.holds(growth_mib=32), impatient.connect() as connection:
        connection.send(frame(HEADERS, 0, 1, block(call_headers())))
        assert connection.wait(lambda: connection.has_ended)


@pytest.mark.parametrize("method", [HEALTH, LIVE, None], ids=["health", "live", "inference"])
def test_half_open_calls_delay_no_other_call(start_target: Start, method: str | None) -> None:
    """Timeline: 1. 500 calls are begun, of which nothing more comes; 2. others of the method are answered, on the same
    connection and on another; 3. h2corn gives the first up, and the connection lives on."""
    target = start_target("--idle-body-timeout-s", "3")
    whole = GOOD if method is None else message(b"")
    path = {} if method is None else {"path": method}
    with target.holds(growth_mib=64), target.connect() as connection, target.connect() as other:
        streams = [connection.call(whole[:3], ends=False, **path) for _ in range(500)]
        for each in (connection, other):
            assert all(each.answer(each.call(whole, **path)).status == 0 for _ in range(20))
        assert not any(connection.answers.get(stream, Answer()).has_ended for stream in streams)
        if target.transport == "h2corn":
            assert connection.answer(streams[0]).status != 0


def test_empty_frames_are_no_progress(impatient: Any) -> None:
    if impatient.transport == "grpcio":
        pytest.skip("grpcio has no time-out for it")
    with impatient.holds(growth_mib=32), impatient.connect() as connection:
        stream = connection.call(GOOD[:3], ends=False)
        end_s = time.monotonic() + 10 * SOON_S
        while time.monotonic() < end_s and not connection.answers.get(stream):
            connection.send(frame(0, 0, stream))
            time.sleep(SOON_S / 10)
        assert connection.answers[stream].status != 0


@pytest.mark.parametrize("method", [INFER, STREAM], ids=["calls", "streams"])
def test_messages_that_are_not_whole_count_as_in_flight(start_target: Start, repository: Path, method: str) -> None:
    """Ten messages of 30 MiB that lack ten bytes each, where 64 MiB may be in flight."""
    target = start_target("--max-inflight-mib", "64", "--max-message-mib", "32")
    chunk = bytes(16_384)
    size = 30 * MIB
    with target.holds(growth_mib=64 + 64, loses="RESOURCE_EXHAUSTED"), target.connect() as connection:
        for _ in range(10):
            stream = connection.call(message(b"", declared=size), method, ends=False)
            connection.upload(stream, chunk, size // len(chunk) - 1, stall_s=1)


@pytest.fixture(scope="module")
def large_answers(tmp_path_factory: pytest.TempPathFactory, graph_writer: Any, model_writer: Any) -> Path:
    """A repository with `doubler`, and `zeros`, which answers with as many as it is asked for."""
    path = tmp_path_factory.mktemp("large")
    model_writer(path / "doubler" / "1" / "model.onnx")
    size, made = {"x": ("INT64", ["N"])}, {"y": ("FLOAT", ["size"])}
    graph_writer(path / "zeros" / "1" / "model.onnx", size, made, ("ConstantOfShape", "x", "y"))
    return path


def _large_request(answer_mib: int = 4) -> bytes:
    """Returns a request whose answer has so many MiB."""
    count = answer_mib * MIB // 4
    made = pb.ModelInferRequest(model_name="zeros", raw_input_contents=[count.to_bytes(8, "little")])
    made.inputs.add(name="x", datatype="INT64", shape=[1])
    return message(made.SerializeToString())


@pytest.fixture
def stalled_request(transport: str) -> bytes:
    """A request whose answer is soon given up: grpcio reports no progress, so it waits longer for a larger one."""
    return _large_request(1 if transport == "grpcio" else 4)


def test_unread_answers_count_as_in_flight_and_are_given_up(
    start_target: Start, large_answers: Path, stalled_request: bytes
) -> None:
    """Timeline: 1. a hundred answers have no window to come in, where 64 MiB may be in flight; 2. all are
    given up after a time; 3. others are answered again."""
    target = start_target("--max-inflight-mib", "64", "--unread-answer-timeout-s", "2", models=large_answers)
    with (
        target.holds(growth_mib=64 + 128, loses="RESOURCE_EXHAUSTED"),
        target.connect({INITIAL_WINDOW: 1}) as connection,
    ):
        streams = [connection.call(stalled_request) for _ in range(100)]
        assert all(connection.answer(stream).has_ended for stream in streams)
        assert not any(connection.answers[stream].status == 0 for stream in streams)
        # Its windows are its own affair: what needs none is answered on the same connection.
        assert connection.answer(connection.call(message(b"x"))).status not in (None, 0)


def test_an_answer_that_is_read_byte_by_byte_is_given_up(
    start_target: Start, large_answers: Path, stalled_request: bytes
) -> None:
    target = start_target("--unread-answer-timeout-s", "1", models=large_answers)
    with target.holds(growth_mib=64), target.connect({INITIAL_WINDOW: 1}) as connection:
        stream = connection.call(stalled_request)
        end_s = time.monotonic() + WAIT_S * 4
        while not connection.answers.get(stream, Answer()).has_ended:
            assert time.monotonic() < end_s
            connection.send(frame(WINDOW, 0, stream, (1).to_bytes(4, "big")))
            time.sleep(0.2)
        assert connection.answers[stream].reset is not None


def test_a_reader_that_is_slow_gets_its_answer(start_target: Start, large_answers: Path) -> None:
    """It takes 4 MiB in more time than an answer may wait for its first byte."""
    target = start_target("--unread-answer-timeout-s", "1", models=large_answers)
    with target.holds(growth_mib=64), target.connect({INITIAL_WINDOW: 64 * 1024}) as connection:
        stream = connection.call(_large_request())
        while not connection.answers.get(stream, Answer()).has_ended:
            room = (128 * 1024).to_bytes(4, "big")
            connection.send(frame(WINDOW, 0, stream, room), frame(WINDOW, 0, 0, room))
            time.sleep(0.1)
        answer = connection.answers[stream]
        assert (answer.status, answer.reset) == (0, None)
        assert len(answer.data) > 4 * MIB


def test_answers_without_a_reader_end_with_their_connection(start_target: Start, large_answers: Path) -> None:
    """Timeline: 1. answers of a third of what may be in flight wait on a connection each; 2. the connections break off,
    again and again; 3. if any answer still counted, others would be refused."""
    target = start_target("--max-inflight-mib", "64", models=large_answers)
    with target.holds(growth_mib=64 + 128):
        for _ in range(20):
            with target.connect({INITIAL_WINDOW: 1}) as connection:
                streams = [connection.call(_large_request()) for _ in range(5)]
                assert connection.wait(lambda: any(stream in connection.answers for stream in streams))  # noqa: B023
        with target.connect({INITIAL_WINDOW: (1 << 31) - 1}) as connection:
            connection.send(frame(WINDOW, 0, 0, (1 << 30).to_bytes(4, "big")))
            streams = [connection.call(_large_request()) for _ in range(5)]
            assert all(connection.answer(stream).status == 0 for stream in streams)


def test_connections_beyond_the_limit_wait_and_are_served_when_there_is_room(start_target: Start) -> None:
    target = start_target("--max-connections", "20")
    if target.transport == "grpcio":
        pytest.skip("grpcio refuses them")
    with ExitStack() as connections:
        idle = [connections.enter_context(_knock(target)) for _ in range(20)]
        for connection in idle:
            connection.sendall(PREFACE + frame(4, 0, 0))
            assert connection.recv(1)
        with target.connect() as late:
            stream = late.call(GOOD)
            assert not late.wait(lambda: stream in late.answers, 0.5)
            idle[0].close()
            assert late.answer(stream).status == 0


@pytest.mark.parametrize("limit", [60, 100])
def test_more_connections_than_the_process_may_hold_open_do_not_end_it(start_target: Start, limit: int) -> None:
    """accept() fails where no file can be opened any more; h2corn ends with its first failure."""
    target = start_target()
    resource.prlimit(target.process.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    with ExitStack() as connections:
        knocked = [connections.enter_context(_knock(target)) for _ in range(2 * limit)]
        # h2corn drops those it has; grpcio leaves the others waiting.
        select.select(knocked, [], [], 1)
    assert until(lambda: _answers(target), WAIT_S)


def _answers(target: Any) -> bool:
    with target.connect() as connection:
        return bool(connection.answer(connection.call(GOOD)).status == 0)
