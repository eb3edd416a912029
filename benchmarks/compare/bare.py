"""A bare grpcio server that runs the model once per request: the baseline for `--transport grpcio`.

As in grpcio's documentation: the threaded server with four threads, protobuf messages, no checks,
no batching. `python -m benchmarks.compare.bare` runs it until SIGTERM.
"""

import re
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import grpc
import numpy as np

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc as pb_grpc
from pixelserve.onnx_runtime import ort

from .bodies import MODEL, single_thread_session
from .cores import Cores
from .process import Server, running

THREADS = 4


def serve(name: str, cores: Cores) -> AbstractContextManager[Server]:
    """Runs the bare server in its own process."""
    return running(name, [*cores.pin_server(), sys.executable, "-m", "benchmarks.compare.bare"], _port)


def _port(said: str) -> int | None:
    found = re.search(r"listening on port (\d+)\n", said)
    return int(found[1]) if found else None


class BareServicer(pb_grpc.GRPCInferenceServiceServicer):
    """Answers ModelInfer on the call's thread."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session

    def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:  # noqa: N802
        """Runs the model on one request's images."""
        shape = list(request.inputs[0].shape)
        images = np.frombuffer(request.raw_input_contents[0], np.uint8).reshape(shape)
        values = self._session.run(["probabilities"], {"image": images})[0]
        response = pb.ModelInferResponse(model_name=MODEL, model_version="1", id=request.id)
        response.outputs.add(name="probabilities", datatype="FP32", shape=values.shape)
        response.raw_output_contents.append(values.tobytes())
        return response


def main() -> None:
    """Serves on a free port of loopback until SIGTERM."""
    server = grpc.server(ThreadPoolExecutor(THREADS))
    pb_grpc.add_GRPCInferenceServiceServicer_to_server(BareServicer(single_thread_session()), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(None))
    print(f"listening on port {port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
