"""The log of a real server: readers that go away, and no foreign output between its lines."""

import io
import json
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import grpc
import pytest
from PIL import Image

from pixelserve.oip import inference_pb2_grpc
from pixelserve.v1 import classifier_pb2, classifier_pb2_grpc

# Each starts a process.
pytestmark = pytest.mark.slow

TIMEOUT_S = 30


@pytest.fixture
def start_logging_to() -> Iterator[Callable[..., Any]]:
    """Starts a server whose log goes where the test says."""
    processes: list[subprocess.Popen[str]] = []

    def start(repository: Path, transport: str, stderr: int | IO[Any]) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "pixelserve", "serve", "--model-repository", str(repository)]
        command += ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", "--transport", transport]
        processes.append(subprocess.Popen(command, stderr=stderr, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait(TIMEOUT_S)


def exchange(address: str, make_request: Callable[..., Any]) -> list[str]:
    """Sends good and bad requests, each of which has a line in the log; returns how they ended."""
    with grpc.insecure_channel(address) as channel:
        infer = inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        requests = [make_request(), make_request("no-such-model")] * 5
        calls = [infer.future(each, timeout=TIMEOUT_S) for each in requests]
        return [call.code().name for call in calls]


def test_a_log_whose_reader_goes_away_costs_no_answer_and_no_drain(
    doubler_repository: Path, transport: str, start_logging_to: Callable[..., Any], make_request: Callable[..., Any]
) -> None:
    """Timeline: 1. the server starts and its log is read; 2. the reader leaves; 3. calls that the server would log are
    answered; 4. it is told to stop, and ends with 0."""
    process = start_logging_to(doubler_repository, transport, subprocess.PIPE)
    serving = next(line for line in process.stderr if '"event": "serving"' in line)
    process.stderr.close()
    assert exchange(json.loads(serving)["grpc"], make_request) == ["OK", "NOT_FOUND"] * 5
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT_S) == 0


def test_a_log_that_is_not_read_costs_no_answer_and_no_drain(
    doubler_repository: Path, transport: str, start_logging_to: Callable[..., Any], make_request: Callable[..., Any]
) -> None:
    """Timeline: 1. the server starts, and its reader falls asleep; 2. another writer fills the pipe; 3. calls are
    answered; 4. the server is told to stop, and ends with 0."""
    source, end = os.pipe()
    process = start_logging_to(doubler_repository, transport, end)
    with open(source, closefd=False) as log:
        serving = next(line for line in log if '"event": "serving"' in line)
    while select.select([], [end], [], 0)[1]:
        os.write(end, bytes(select.PIPE_BUF))
    os.close(end)
    assert exchange(json.loads(serving)["grpc"], make_request) == ["OK", "NOT_FOUND"] * 5
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT_S) == 0
    os.close(source)


def picture_with_broken_exif() -> bytes:
    """Returns a JPEG of which Pillow warns: its EXIF data announce five entries and hold half a one."""
    buffer = io.BytesIO()
    Image.new("L", (28, 28)).save(buffer, "JPEG")
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03\0\0\0\x01\0\x06"
    start, rest = buffer.getvalue()[:2], buffer.getvalue()[2:]
    return start + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + rest


def test_what_libraries_say_of_a_senders_mistakes_does_not_fill_the_log(
    root: Path,
    tmp_path: Path,
    start_server: Callable[..., Any],
    graph_writer: Callable[..., Path],
    make_tensor: Any,
    make_request: Callable[..., Any],
) -> None:
    """Timeline: 1. Pillow has something to say of a picture; 2. a node fails on a request's values, which its sender is
    told; 3. every line of the log is JSON, and the server's own."""
    repository = tmp_path / "repository"
    (repository / "mnist-cnn").parent.mkdir()
    (repository / "mnist-cnn").symlink_to(root / "models" / "mnist-cnn")
    # Rows that are gathered by their values: a value that is not a row's index fails during computation.
    rows = ("INT64", ["N", 4])
    graph_writer(repository / "picky" / "1" / "model.onnx", {"x": rows}, {"y": rows}, ("GatherElements", "x x", "y"))
    server = start_server(repository)
    with grpc.insecure_channel(server.grpc) as channel:
        classify = classifier_pb2_grpc.ClassifierStub(channel).Classify
        image = classifier_pb2.Image(encoded=picture_with_broken_exif())
        classify(classifier_pb2.ClassifyRequest(model="mnist-cnn", images=[image]), timeout=TIMEOUT_S)
    values = struct.pack("<4q", 99, 0, 0, 0)
    request = make_request("picky", inputs=[make_tensor("x", "INT64", [1, 4])], raw=[values])
    with pytest.raises(grpc.RpcError, match="GatherElements"):
        server.stub().ModelInfer(request, timeout=TIMEOUT_S)
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.lines]
    assert not [line for line in lines if line["event"] in ("library output", "python warning")]
