"""Requests with MNIST images, and their expected answers, computed by ONNX Runtime."""

import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pixelserve.oip import inference_pb2 as pb
from pixelserve.onnx_runtime import ort

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = "mnist-cnn"
MODEL_FILE = ROOT / "models" / MODEL / "1" / "model.onnx"
METHOD = "/inference.GRPCInferenceService/ModelInfer"
STREAM_METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"
# Between batch sizes, a reordered sum may differ in the last bits; a wrong image differs in the first.
TOLERANCE = 1e-5

Images = npt.NDArray[np.uint8]
"""Images as model input: [N, 28, 28, 1], grey levels from 0 to 255, light on dark."""

Probabilities = npt.NDArray[np.float32]
"""The model's output: [N, 10], each row sums to 1."""


def mnist_images() -> Images:
    """Returns the 10,000 images of MNIST's test split."""
    raw = gzip.decompress((ROOT / "tests" / "data" / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28, 1)


def infer_request(images: Images, identity: str = "") -> pb.ModelInferRequest:
    """Returns one request for all images."""
    request = pb.ModelInferRequest(model_name=MODEL, id=identity, raw_input_contents=[images.tobytes()])
    request.inputs.add(name="image", datatype="UINT8", shape=images.shape)
    return request


def grpc_message(payload: bytes) -> bytes:
    """Returns a message framed for gRPC: uncompressed flag, length, message."""
    return struct.pack(">BI", 0, len(payload)) + payload


def probabilities(response: pb.ModelInferResponse) -> Probabilities:
    """Returns an answer's values."""
    return np.frombuffer(response.raw_output_contents[0], np.float32).reshape(response.outputs[0].shape)


def single_thread_session() -> ort.InferenceSession:
    """Returns a session of the model that computes on the calling thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return ort.InferenceSession(MODEL_FILE, options, providers=["CPUExecutionProvider"])


class Oracle:
    """Checks answers against ONNX Runtime."""

    def __init__(self) -> None:
        self._session = single_thread_session()

    def is_right(self, response: pb.ModelInferResponse, images: Images, identity: str = "") -> bool:
        """Returns whether an answer matches ONNX Runtime's for these images and has the request's id."""
        expected = self._session.run(None, {"image": images})[0]
        got = probabilities(response)
        if response.id != identity or got.shape != expected.shape:
            return False
        return bool(np.allclose(got, expected, rtol=0, atol=TOLERANCE))
