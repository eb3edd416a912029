"""Answers are complete when their bytes are sent: a stopping server waits for slow readers, within its grace period."""

import json
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb

pytestmark = pytest.mark.slow
# Mutual TLS sends no other bytes than TLS.
ENCRYPTED = pytest.mark.parametrize("security", ["plain", "tls"], indirect=True)
IN_THE_CLEAR = pytest.mark.parametrize("security", ["plain"], indirect=True)

TIMEOUT_S = 60
ROWS, COLUMNS = 8000, 1000
ANSWER_BYTES = ROWS * COLUMNS * 4
# Behind this, the rest of an answer is in the kernels of both sides.
ALMOST_ALL = ANSWER_BYTES - (1 << 20)
HOUR_S = "3600"
# Maximum time to stop for a server that does not wait for its reader.
_HASTE_S = 2.0


class SlowReader:
    """A proxy between client and server. Reads a number of bytes of the answers, then pauses until `go_on`."""

    def __init__(self, address: str, *stops: int) -> None:
        self._server = address
        self._stops = list(stops)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.paused = threading.Semaphore(0)
        """Released whenever it has read up to a stop."""
        self._go_on = threading.Semaphore(0)
        threading.Thread(target=self._carry, daemon=True).start()

    def go_on(self) -> None:
        self._go_on.release()

    def close(self) -> None:
        self._listener.close()
        self._go_on.release(100)

    def _carry(self) -> None:
        with suppress(OSError), self._listener.accept()[0] as client, socket.socket() as server:
            # The kernel buffers little, so unread data waits in the server.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            host, port = self._server.split(":")
            server.connect((host, int(port)))
            threading.Thread(target=self._send, args=(client, server), daemon=True).start()
            try:
                self._read(server, client)
            finally:
                # The other thread waits on it, and would keep it open.
                client.shutdown(socket.SHUT_RDWR)

    def _read(self, server: socket.socket, client: socket.socket) -> None:
        read_bytes = 0
        while data := server.recv(64 * 1024):
            client.sendall(data)
            read_bytes += len(data)
            while self._stops and read_bytes >= self._stops[0]:
                self._stops.pop(0)
                self.paused.release()
                assert self._go_on.acquire(timeout=TIMEOUT_S)

    @staticmethod
    def _send(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(64 * 1024):
                server.sendall(data)


@pytest.fixture
def slow_reader() -> Iterator[Callable[..., SlowReader]]:
    made: list[SlowReader] = []

    def make(address: str, *stops: int) -> SlowReader:
        made.append(SlowReader(address, *stops))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def zeros(tmp_path: Path, graph_writer: Callable[..., Path]) -> Path:
    """A model whose answer is as large as its request says."""
    outputs = {"zeros": ("FLOAT", ["ROWS", "COLUMNS"])}
    path = tmp_path / "models" / "zeros" / "1" / "model.onnx"
    graph_writer(path, {"shape": ("INT64", [2])}, outputs, ("ConstantOfShape", "shape", "zeros"))
    return tmp_path / "models"


def ask(served: Any, kind: str, address: str) -> int:
    """Sends a request; returns the bytes of its answer."""
    message = pb.ModelInferRequest(model_name="zeros")
    message.inputs.add(name="shape", datatype="INT64", shape=[2])
    message.raw_input_contents.append(np.array([ROWS, COLUMNS], "<i8").tobytes())
    if kind == "http":
        shape = {"name": "shape", "datatype": "INT64", "shape": [2], "data": [ROWS, COLUMNS]}
        asked = {"inputs": [shape], "outputs": [{"name": "zeros", "parameters": {"binary_data": True}}]}
        with closing(served.connect_http(address)) as connection:
            connection.request("POST", "/v2/models/zeros/infer", json.dumps(asked), served.http_headers())
            answer = connection.getresponse()
            head_bytes = int(answer.headers["inference-header-content-length"])
            return len(answer.read()) - head_bytes
    stub = served.stub(address=address)
    if kind == "unary":
        return len(stub.ModelInfer(message, timeout=TIMEOUT_S).raw_output_contents[0])
    (answer,) = stub.ModelStreamInfer(iter([message]), timeout=TIMEOUT_S)
    return len(answer.infer_response.raw_output_contents[0])


def port(served: Any, kind: str) -> str:
    return str(urlsplit(served.process.http).netloc if kind == "http" else served.process.grpc)


@ENCRYPTED
@pytest.mark.parametrize("kind", ["unary", "stream", "http"])
def test_an_answer_that_is_being_read_is_read_to_its_end(
    serve: Any, zeros: Path, slow_reader: Any, eventually: Any, kind: str
) -> None:
    """Timeline: 1. a client has read a part of an answer; 2. SIGTERM; 3. it reads the rest but for the last MiB, which
    is in the kernels, and then nothing for longer than the server needs to end; 4. it reads the rest, and has the whole
    answer; 5. exit code 0."""
    served = serve(zeros, "--grace-s", HOUR_S)
    reader = slow_reader(port(served, kind), 1 << 20, ALMOST_ALL)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, served, kind, reader.address)
        assert reader.paused.acquire(timeout=TIMEOUT_S)
        served.process.process.send_signal(signal.SIGTERM)
        eventually(lambda: any(event["event"] == "draining" for event in served.process.events()))
        reader.go_on()
        assert reader.paused.acquire(timeout=TIMEOUT_S)
        with suppress(subprocess.TimeoutExpired):
            served.process.process.wait(_HASTE_S)
        reader.go_on()
        assert asked.result(TIMEOUT_S) == ANSWER_BYTES
    assert served.process.process.wait(TIMEOUT_S) == 0
    served.process.stop()
    (stopped,) = [event for event in served.process.events() if event["event"] == "stopped"]
    assert (stopped["answered"], stopped["unfinished"]) == (1, 0)


@IN_THE_CLEAR
@pytest.mark.parametrize("kind", ["unary", "stream", "http"])
def test_an_answer_that_is_not_read_by_the_end_of_the_grace_is_unfinished(
    serve: Any, zeros: Path, slow_reader: Any, kind: str
) -> None:
    served = serve(zeros, "--grace-s", "1")
    reader = slow_reader(port(served, kind), 1 << 20)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, served, kind, reader.address)
        assert reader.paused.acquire(timeout=TIMEOUT_S)
        assert served.process.stop() == 13
        reader.go_on()
        assert asked.exception(TIMEOUT_S) is not None
    (stopped,) = [event for event in served.process.events() if event["event"] == "stopped"]
    assert stopped["unfinished"] == 1


@IN_THE_CLEAR
def test_a_request_that_is_not_whole_holds_up_no_end(serve: Any, zeros: Path) -> None:
    served = serve(zeros, "--grace-s", HOUR_S)
    connection = served.connect_http()
    connection.connect()
    headers = "".join(f"{key}: {value}\r\n" for key, value in served.http_headers().items())
    head = f"POST /v2/models/zeros/infer HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: 1000\r\n\r\n{{"
    connection.sock.sendall(head.encode())
    has_ended = threading.Event()

    def nothing() -> Iterator[bytes]:
        has_ended.wait(TIMEOUT_S)
        yield from ()

    # A call of which only the headers came.
    call = served.channel().stream_unary("/inference.GRPCInferenceService/ModelInfer").future(nothing())
    assert served.stub().ServerLive(pb.ServerLiveRequest(), timeout=TIMEOUT_S).live
    assert served.process.stop() == 0
    assert call.exception(TIMEOUT_S) is not None
    has_ended.set()
    connection.close()
