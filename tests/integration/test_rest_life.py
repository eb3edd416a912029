"""HTTP over a server's life cycle: deadlines, full queues, callers that leave, the drain, and ports."""

import json
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.slow

TIMEOUT_S = 30
HOUR_S = "3600"
INFER = "/v2/models/patient/infer"
REQUEST = {"inputs": [{"name": "values", "datatype": "FP32", "shape": [1, 4], "data": [0, 1, 2, 3]}]}

Start = Callable[..., Any]


@pytest.fixture
def patient_repository(tmp_path: Path, write_patient_model: Callable[..., None]) -> Path:
    """One model that waits until three rows are there."""
    write_patient_model(tmp_path / "repository" / "patient", rows=3)
    return tmp_path / "repository"


@pytest.fixture
def in_background(call_http: Any) -> Any:
    """Sends HTTP requests on threads of their own."""
    pool = ThreadPoolExecutor(max_workers=4)

    def send(*args: Any, **kwargs: Any) -> Future[Any]:
        return pool.submit(call_http, *args, **kwargs)

    yield send
    pool.shutdown()


def post(server: Any, body: bytes, headers: str = "") -> socket.socket:
    """Sends an inference request and returns the connection, on which the answer will come."""
    connection = socket.create_connection(tuple(urlsplit(server.http).netloc.split(":")), timeout=TIMEOUT_S)
    connection.sendall(
        f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
    )
    return connection


def metric(server: Any, line: str) -> float:
    """Returns a value from the metrics page."""
    with urllib.request.urlopen(server.metrics, timeout=TIMEOUT_S) as page:
        (found,) = [each for each in page.read().decode().splitlines() if each.startswith(line)]
    return float(found.split()[-1])


def test_requests_over_http_and_grpc_share_a_batch(
    patient_repository: Path, start_server: Start, in_background: Any, make_request: Any, eventually: Any
) -> None:
    """Timeline: 1. two requests wait, each for two others, one came over HTTP and one over gRPC; 2. a third comes over
    HTTP, and all are answered in one run."""
    server = start_server(patient_repository)
    first = in_background(server, INFER, REQUEST | {"id": "first"})
    second = server.stub().ModelInfer.future(make_request("patient"))
    eventually(lambda: server.pending() == 2)
    third = in_background(server, INFER, REQUEST | {"id": "third"})
    assert [each.result(TIMEOUT_S).json["id"] for each in (first, third)] == ["first", "third"]
    assert len(second.result(TIMEOUT_S).outputs) == 1
    eventually(lambda: metric(server, "nv_inference_count{") == 3)
    assert metric(server, "nv_inference_exec_count{") == 1


def test_a_timeout_passes_over_http(patient_repository: Path, start_server: Start, call_http: Any) -> None:
    answer = call_http(start_server(patient_repository), INFER, REQUEST | {"parameters": {"timeout": 10_000}})
    assert answer.status == 504
    assert "patient" in answer.error


def test_a_full_queue_says_when_to_come_back(
    tmp_path: Path, write_patient_model: Any, start_server: Start, call_http: Any, eventually: Any
) -> None:
    """Timeline: 1. a request waits for company, which is as many as may; 2. another is one too many."""
    write_patient_model(tmp_path / "repository" / "patient", rows=3, max_queue_size=1)
    server = start_server(tmp_path / "repository")
    with post(server, json.dumps(REQUEST).encode()):
        eventually(lambda: server.pending() == 1)
        answer = call_http(server, INFER, REQUEST)
    assert (answer.status, int(answer.headers["retry-pushback-ms"]) > 0) == (429, True)
    assert "grpc-retry-pushback-ms" not in answer.headers


def test_a_caller_who_leaves_is_dropped_and_its_mates_are_answered(
    patient_repository: Path, start_server: Start, in_background: Any, eventually: Any
) -> None:
    """Timeline: 1. a request waits for company; 2. its caller hangs up: it is dropped; 3. three others come, fill a
    batch, and are computed alone."""
    server = start_server(patient_repository)
    with post(server, json.dumps(REQUEST).encode()):
        eventually(lambda: server.pending() == 1)
    eventually(lambda: server.pending() == 0)
    mates = [in_background(server, INFER, REQUEST) for _ in range(3)]
    assert [each.result(TIMEOUT_S).status for each in mates] == [200] * 3
    eventually(lambda: metric(server, "nv_inference_count{") == 3)
    assert metric(server, 'nv_inference_request_failure{model="patient",reason="CANCELED"') == 1
    assert [event for event in server.events() if event["level"] == "error"] == []


def test_a_caller_who_leaves_in_the_middle_of_a_body_costs_nothing(
    patient_repository: Path, start_server: Start, call_http: Any
) -> None:
    server = start_server(patient_repository)
    with post(server, b"{", headers="Content-Length: 1000\r\n"):
        pass
    with socket.create_connection(tuple(urlsplit(server.http).netloc.split(":"))) as connection:
        connection.sendall(f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{{".encode())
    with socket.create_connection(tuple(urlsplit(server.http).netloc.split(":"))) as connection:
        connection.sendall(b"this is no HTTP\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert call_http(server, "/v2/health/ready").status == 200
    assert server.stop() == 0
    # No line that is not ours, and none that says that something is wrong.
    assert [event["event"] for event in server.events() if event["level"] == "error"] == []
    assert [line for line in server.lines if not line.startswith("{")] == []


def test_the_bytes_of_all_bodies_are_bounded(
    tmp_path: Path, start_server: Start, model_writer: Any, call_http: Any, eventually: Any
) -> None:
    """Timeline: 1. a body of most of a MiB is there, but for its last byte; 2. another of its size is refused, a small
    one is not; 3. the first leaves; 4. another of its size is taken."""
    model_writer(tmp_path / "repository" / "patient" / "1" / "model.onnx")
    server = start_server(tmp_path / "repository", "--max-inflight-mib", "1")
    large = json.dumps(REQUEST).encode().ljust(900_000)
    head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(large)}\r\n\r\n".encode()

    def beside_a_body() -> list[int]:
        with socket.create_connection(tuple(urlsplit(server.http).netloc.split(":"))) as connection:
            connection.sendall(head + large[:-1])
            return [call_http(server, INFER, body).status for body in (large, REQUEST)]

    # Of two bodies that arrive at once either may be the one that is refused, so it may take more than one attempt.
    eventually(lambda: beside_a_body() == [429, 200])
    eventually(lambda: call_http(server, INFER, large).status == 200)


def test_a_settling_server_says_that_it_stops_and_still_accepts(
    patient_repository: Path, start_server: Start, call_http: Any, in_background: Any, eventually: Any
) -> None:
    """Timeline: 1. two requests wait for a third; 2. the server is told to stop, and settles: readiness says so; 3. the
    third is still accepted, and all are answered."""
    server = start_server(patient_repository, "--drain-settle-s", HOUR_S)
    accepted = [in_background(server, INFER, REQUEST) for _ in range(2)]
    eventually(lambda: server.pending() == 2)
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: call_http(server, "/v2/health/ready").status == 400)
    assert call_http(server, "/v2/health/live").status == 200
    accepted.append(in_background(server, INFER, REQUEST))
    assert [each.result(TIMEOUT_S).status for each in accepted] == [200] * 3


def test_a_stopping_server_refuses_new_requests_and_finishes_those_that_it_accepted(
    tmp_path: Path, write_patient_model: Any, start_server: Start, call_http: Any, in_background: Any, eventually: Any
) -> None:
    """Timeline: 1. two requests wait, five seconds at most, for a third; 2. the server is told to stop: others are told
    503; 3. the two are answered; 4. the process ends with 0."""
    write_patient_model(tmp_path / "repository" / "patient", rows=3, delay_s=5)
    server = start_server(tmp_path / "repository")
    accepted = [in_background(server, INFER, REQUEST) for _ in range(2)]
    eventually(lambda: server.pending() == 2)
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: call_http(server, "/v2/health/live").status == 503)
    refused = call_http(server, INFER, REQUEST)
    assert (refused.status, "stopping" in refused.error) == (503, True)
    assert [each.result(TIMEOUT_S).status for each in accepted] == [200] * 2
    assert server.process.wait(TIMEOUT_S) == 0
    server.stop()
    (stopped,) = [event for event in server.events() if event["event"] == "stopped"]
    assert stopped["unfinished"] == 0


def test_every_request_under_load_is_answered_when_the_server_stops(
    doubler_repository: Path, start_server: Start, call_http: Any
) -> None:
    """Timeline: 1. four callers send one request after another; 2. SIGTERM; 3. each request is answered or told 503,
    and the server says that it answered as many as they got."""
    server = start_server(doubler_repository)
    statuses: list[list[int]] = [[], [], [], []]
    enough = threading.Event()

    def send(own: list[int]) -> None:
        while not own or own[-1] == 200:
            own.append(call_http(server, "/v2/models/doubler/infer", REQUEST).status)
            if len(own) == 10:
                enough.set()

    with ThreadPoolExecutor(max_workers=4) as pool:
        callers = [pool.submit(send, own) for own in statuses]
        assert enough.wait(TIMEOUT_S)
        server.process.send_signal(signal.SIGTERM)
        for caller in callers:
            caller.result(TIMEOUT_S)
    assert server.process.wait(TIMEOUT_S) == 0
    server.stop()
    assert [own[-1] for own in statuses] == [503] * 4
    (stopped,) = [event for event in server.events() if event["event"] == "stopped"]
    assert stopped["answered"] == sum(own.count(200) for own in statuses)


def test_an_idle_connection_does_not_hold_up_the_end(doubler_repository: Path, start_server: Start) -> None:
    server = start_server(doubler_repository, "--grace-s", HOUR_S)
    with socket.create_connection(tuple(urlsplit(server.http).netloc.split(":"))) as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        assert server.stop() == 0


def test_http_can_be_switched_off(doubler_repository: Path, start_server: Start) -> None:
    server = start_server(doubler_repository, "--no-http")
    assert server.fields["http"] is None
    assert server.stop() == 0


def test_a_port_that_is_taken_is_named_with_the_remedies(doubler_repository: Path, failing_serve: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        failure = failing_serve("--model-repository", str(doubler_repository), "--http-port", port)
    assert failure.code == 1
    assert f"127.0.0.1:{port} for HTTP: " in failure.message
    assert "--http-port" in failure.message
    assert "--no-http" in failure.message
