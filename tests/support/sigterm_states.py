"""The states of `sigterms`: each starts a server in a folder and brings it to a random moment of a state."""

import contextlib
import io
import os
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image
from random_servers import CALL_S, Server

from pixelserve.oip import inference_pb2 as pb
from pixelserve.v1 import classifier_pb2, classifier_pb2_grpc

ROOT = Path(__file__).resolve().parent.parent.parent
_READER_BYTES_PER_S = 10e6


def _infer(model: str = "mnist-cnn", side: int = 28, depth: int = 1) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name=model, raw_input_contents=[bytes(side * side * depth)])
    message.inputs.add(name="image", datatype="UINT8", shape=[1, side, side, depth])
    return message


def _write(path: Path, graph: onnx.GraphProto) -> None:
    path.parent.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _write_endless(repository: Path) -> None:
    """Writes a model whose every run is a loop without an end."""
    scalar, floats = helper.make_tensor_value_info, ["N"]
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c_out"]), helper.make_node("Identity", ["v"], ["v_out"])],
        "body",
        [scalar("i", TensorProto.INT64, []), scalar("c", TensorProto.BOOL, []), scalar("v", TensorProto.FLOAT, floats)],
        [scalar("c_out", TensorProto.BOOL, []), scalar("v_out", TensorProto.FLOAT, floats)],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "t", "x"], ["y"], body=body)],
        "endless",
        [scalar("x", TensorProto.FLOAT, floats)],
        [scalar("y", TensorProto.FLOAT, floats)],
        [
            helper.make_tensor("n", TensorProto.INT64, [], [2**62]),
            helper.make_tensor("t", TensorProto.BOOL, [], [True]),
        ],
    )
    _write(repository / "endless" / "1" / "model.onnx", graph)


def _write_zeros(repository: Path) -> None:
    """Writes a model whose answer is as large as its request says."""
    graph = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["shape"], ["zeros"])],
        "zeros",
        [helper.make_tensor_value_info("shape", TensorProto.INT64, [2])],
        [helper.make_tensor_value_info("zeros", TensorProto.FLOAT, ["A", "B"])],
    )
    _write(repository / "zeros" / "1" / "model.onnx", graph)


def _copy(repository: Path, model: str, name: str) -> None:
    shutil.copytree(ROOT / "models" / model, repository / name)
    config = repository / name / "config.pbtxt"
    config.write_text("\n".join(line for line in config.read_text().split("\n") if not line.startswith("name:")))


def starting(folder: Path, transport: str, chance: random.Random) -> Server:
    for number in range(6):
        _copy(folder, "cifar10", f"c{number}")
    server = Server(folder, transport)
    # Before it has asked for signals it ends by this one; it may also serve by then.
    server.result.expected = {0, -signal.SIGTERM}
    time.sleep(chance.uniform(0, 10))
    return server


def loading(folder: Path, transport: str, chance: random.Random) -> Server:
    _copy(folder, "mnist-cnn", "mnist-cnn")
    _write_endless(folder)
    server = Server(folder, transport, "--model-control-mode", "explicit", "--load-models", "mnist-cnn")
    server.wait_until_ready()
    load = server.stub().RepositoryModelLoad
    # It cannot be answered in time, and the exit code says so.
    request = pb.RepositoryModelLoadRequest(model_name="endless")
    server.start(lambda: server.call(lambda: load(request, timeout=CALL_S), may_fail=True))
    infer = server.stub().ModelInfer
    server.keep_calling(2, lambda: infer(_infer(), timeout=CALL_S))
    server.result.expected = {13}
    time.sleep(chance.uniform(0.5, 2))
    return server


def _serving(folder: Path, transport: str, *flags: str) -> Server:
    """Returns a server that is ready, with mnist-cnn."""
    _copy(folder, "mnist-cnn", "mnist-cnn")
    server = Server(folder, transport, *flags)
    server.wait_until_ready()
    return server


def decoding(folder: Path, transport: str, chance: random.Random) -> Server:
    server = _serving(folder, transport)
    picture = io.BytesIO()
    Image.new("L", (1500, 1500)).save(picture, "JPEG")
    message = classifier_pb2.ClassifyRequest(model="mnist-cnn")
    for _ in range(8):
        message.images.add(encoded=picture.getvalue())
    classify = classifier_pb2_grpc.ClassifierStub(server.channel()).Classify
    server.keep_calling(4, lambda: classify(message, timeout=CALL_S))
    time.sleep(chance.uniform(0, 1))
    return server


def swapping(folder: Path, transport: str, chance: random.Random) -> Server:
    server = _serving(folder, transport, "--model-control-mode", "poll", "--repository-poll-s", "0.2")
    infer = server.stub().ModelInfer
    server.keep_calling(4, lambda: infer(_infer(), timeout=CALL_S))

    def swap() -> None:
        while server.process.poll() is None:
            os.utime(folder / "mnist-cnn" / "1" / "model.onnx")
            time.sleep(1)

    server.start(swap)
    time.sleep(chance.uniform(0, 3))
    return server


def streaming(folder: Path, transport: str, chance: random.Random) -> Server:
    server = _serving(folder, transport)
    stub = server.stub()

    def stream() -> None:
        sent, answered = 0, 0
        may_send = threading.Semaphore(4)

        def requests() -> Iterator[pb.ModelInferRequest]:
            nonlocal sent
            while time.monotonic() < server.signalled_s - 0.05 and may_send.acquire(timeout=CALL_S):
                sent += 1
                yield _infer()

        with contextlib.suppress(grpc.RpcError):
            for answer in stub.ModelStreamInfer(requests(), timeout=CALL_S):
                answered += not answer.error_message
                may_send.release()
        server.result.ends["OK"] += answered
        # What was being sent when the stream ended was not accepted.
        if sent - answered > 4:
            server.result.lost.append(f"{sent - answered} of {sent} requests of a stream")

    server.start(*[stream] * 3)
    time.sleep(chance.uniform(0, 1.5))
    return server


def overloaded(folder: Path, transport: str, chance: random.Random) -> Server:
    _copy(folder, "cifar10", "cifar10")
    server = Server(folder, transport)
    server.wait_until_ready()
    infer = server.stub().ModelInfer
    server.keep_calling(48, lambda: infer(_infer("cifar10", 32, 3), timeout=0.3))
    time.sleep(chance.uniform(0.2, 2))
    return server


def slow_reader(folder: Path, transport: str, chance: random.Random) -> Server:
    _write_zeros(folder)
    server = Server(folder, transport)
    server.wait_until_ready()
    size_bytes = chance.uniform(4e6, 16e6)
    message = pb.ModelInferRequest(model_name="zeros")
    message.inputs.add(name="shape", datatype="INT64", shape=[2])
    message.raw_input_contents.append(np.array([size_bytes / 4000, 1000], "<i8").tobytes())
    reading = threading.Event()
    infer = server.stub(_slow(server.address, reading)).ModelInfer
    server.start(lambda: server.call(lambda: infer(message, timeout=CALL_S)))
    # While it is read: `call` counts earlier bytes.
    reading.wait(CALL_S)
    time.sleep(chance.uniform(0.1, 0.3))
    return server


def disk_full(folder: Path, transport: str, chance: random.Random) -> Server:
    _copy(folder, "mnist-cnn", "mnist-cnn")
    flags = ("--model-control-mode", "explicit", "--load-models", "*")
    server = Server(folder, transport, *flags, is_full=True)
    server.wait_until_ready()
    stub = server.stub()
    server.keep_calling(4, lambda: stub.ModelInfer(_infer(), timeout=CALL_S))
    load = pb.RepositoryModelLoadRequest(model_name="sent")
    load.parameters["config"].string_param = "{}"
    load.parameters["file:1/model.onnx"].bytes_param = b"not stored"

    def go_on() -> None:
        while time.monotonic() < server.signalled_s:
            # Refused, since it cannot be stored.
            server.call(lambda: stub.RepositoryModelLoad(load, timeout=CALL_S), may_fail=True)

    server.start(go_on)
    time.sleep(chance.uniform(0, 1.5))
    return server


def _slow(address: str, reading: threading.Event) -> str:
    """Returns an address that leads there, where answers are read at 10 MB/s."""
    listener = socket.create_server(("127.0.0.1", 0))

    def carry() -> None:
        with listener, contextlib.suppress(OSError), listener.accept()[0] as client, socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            host, port = address.split(":")
            server.connect((host, int(port)))
            sender = threading.Thread(target=_copy_bytes, args=(client, server), daemon=True)
            sender.start()
            _copy_bytes(server, client, _READER_BYTES_PER_S, reading)
            sender.join(CALL_S)

    threading.Thread(target=carry, daemon=True).start()
    return f"127.0.0.1:{listener.getsockname()[1]}"


def _copy_bytes(
    source: socket.socket, sink: socket.socket, bytes_per_s: float = 1e12, reading: threading.Event | None = None
) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
            if reading is not None and len(data) > 1000:
                reading.set()
            time.sleep(len(data) / bytes_per_s)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


STATES = (starting, loading, decoding, swapping, streaming, overloaded, slow_reader, disk_full)
