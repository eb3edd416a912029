"""Limits on a single sender."""

import gzip
import json
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc

pytestmark = pytest.mark.slow

TIMEOUT_S = 30


def test_a_connection_has_no_more_calls_in_flight_than_it_may(
    tmp_path: Path, start_server: Any, write_patient_model: Any, make_request: Any, eventually: Callable[..., None]
) -> None:
    """Timeline: 1. one connection sends three calls and may have two; 2. another sends one, which makes three in the
    queue, so that the third of the first was held back; 3. all leave."""
    write_patient_model(tmp_path / "repository" / "patient", rows=8)
    server = start_server(tmp_path / "repository", "--max-concurrent-streams", "2")
    with grpc.insecure_channel(server.grpc) as first:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(first)
        # A connection learns of the limit with its first answer.
        assert stub.ServerLive(pb.ServerLiveRequest(), timeout=TIMEOUT_S).live
        sent = [stub.ModelInfer.future(make_request("patient")) for _ in range(3)]
        eventually(lambda: server.pending() == 2)
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(server.grpc, options=options) as second:
            other = inference_pb2_grpc.GRPCInferenceServiceStub(second).ModelInfer.future(make_request("patient"))
            eventually(lambda: server.pending() == 3)
            for call in (*sent, other):
                call.cancel()


def test_bytes_in_flight_of_the_whole_server_are_bounded(
    tmp_path: Path, start_server: Any, model_writer: Any, eventually: Callable[..., None]
) -> None:
    """Timeline: 1. a request of most of a MiB waits for company; 2. another of its size is refused; 3. a small one is
    not."""
    width = 200_000
    folder = tmp_path / "repository" / "wide"
    model_writer(folder / "1" / "model.onnx", width=width)
    (folder / "config.pbtxt").write_text(
        "max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 3600000000 }"
    )
    server = start_server(tmp_path / "repository", "--max-inflight-mib", "1")
    request = pb.ModelInferRequest(model_name="wide", raw_input_contents=[np.zeros((1, width), np.float32).tobytes()])
    request.inputs.add(name="values", datatype="FP32", shape=[1, width])
    stub = server.stub()
    waiting = stub.ModelInfer.future(request)
    eventually(lambda: server.pending() == 1)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "--max-inflight-mib" in caught.value.details()
    assert stub.ServerLive(pb.ServerLiveRequest(), timeout=TIMEOUT_S).live
    waiting.cancel()


@pytest.mark.parametrize("field", ["inputs", "outputs", "raw_input_contents", "parameters"])
def test_a_request_of_millions_of_empty_fields_costs_little(
    server: Any, make_request: Callable[..., Any], field: str
) -> None:
    """Ten MiB of them made a server 1.3 to 2.4 GB larger, and kept it busy for seconds."""
    number = pb.ModelInferRequest.DESCRIPTOR.fields_by_name[field].number
    message = make_request().SerializeToString() + bytes([number << 3 | 2, 0]) * (5 << 20)
    status = Path(f"/proc/{server.process.pid}/status")

    def peak_kib() -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))

    with grpc.insecure_channel(server.grpc, [("grpc.max_send_message_length", -1)]) as channel:
        method = "/inference.GRPCInferenceService/ModelInfer"
        infer = channel.unary_unary(method, lambda sent: sent, pb.ModelInferResponse.FromString)
        before = peak_kib()
        with pytest.raises(grpc.RpcError) as caught:
            infer(message, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "more than 4,096 fields" in caught.value.details()
    assert peak_kib() - before < 200 * 1024


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_bodies_over_http_stay_within_the_limit_while_they_are_unpacked(
    start_server: Callable[..., Any], graph_writer: Callable[..., Path], call_http: Any, tmp_path: Path, encoding: str
) -> None:
    """Each thread that unpacked one used to hold it before it counted: 40 of them took 460 to 520 MiB."""
    row, largest = ("FLOAT", ["N", "width"]), ("FLOAT", ["N", 1])
    nodes = (("ReduceMax", "x", "y"),)
    model = tmp_path / "models" / "largest" / "1" / "model.onnx"
    graph_writer(model, {"x": row}, {"y": largest}, *nodes, axes=[1], keepdims=1)
    server = start_server(tmp_path / "models", "--max-inflight-mib", "64")
    status = Path(f"/proc/{server.process.pid}/status")

    def memory_mib(field: str) -> float:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field)) / 1024

    size_bytes = 60 << 20
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, size_bytes // 4]}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": size_bytes}}]}).encode()
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding](
        head + os.urandom(size_bytes // 50) + bytes(size_bytes - size_bytes // 50)
    )
    headers = {"Content-Encoding": encoding, "Inference-Header-Content-Length": str(len(head))}

    def send(_: int) -> int:
        return int(call_http(server, "/v2/models/largest/infer", packed, headers).status)

    before_mib = memory_mib("VmRSS")
    with ThreadPoolExecutor(8) as clients:
        outcomes = set(clients.map(send, range(16)))
    assert outcomes == {200, 429}
    # The message that is made of the one that fits is counted beside it.
    assert memory_mib("VmHWM") - before_mib < 4 * 64
    assert send(0) == 200
