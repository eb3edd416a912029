"""Settings that no other test changes on a running server (tests/contract/test_settings_evidence.py)."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from pixelserve.oip import inference_pb2 as pb

pytestmark = pytest.mark.slow

TIMEOUT_S = 60
CLASSIFY = "/v1/models/mnist-cnn:classify"
FLAGS = {
    "--default-max-batch-size": "4",
    "--max-image-pixels": "20000000",
    "--max-decode-mib": "64",
    "--max-header-kib": "32",
    "--warmup-mib": "0",
    "--model-control-mode": "explicit",
    "--load-models": "*",
    "--max-load-files-mib": "1",
}


@pytest.fixture(scope="module")
def server(
    start_module_server: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    model_writer: Callable[..., Path],
    root: Path,
) -> Any:
    """A server on mnist-cnn and the doubler, which has no config.pbtxt, with the settings of `FLAGS`."""
    repository = tmp_path_factory.mktemp("repository")
    (repository / "mnist-cnn").symlink_to(root / "models" / "mnist-cnn")
    model_writer(repository / "doubler" / "1" / "model.onnx")
    return start_module_server(repository, *(part for pair in FLAGS.items() for part in pair))


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def test_a_model_without_config_takes_batches_of_the_default_size(server: Any, make_request: Any) -> None:
    stub = server.stub()
    assert stub.ModelInfer(make_request(rows=4), timeout=TIMEOUT_S).outputs[0].shape == [4, 4]
    code, _ = refusal(lambda: stub.ModelInfer(make_request(rows=5), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_picture_of_more_pixels_than_allowed_is_refused(server: Any, call_http: Any) -> None:
    answer = call_http(server, CLASSIFY, png(5000, 4001), {"Content-Type": "image/png"})
    assert "at most 20,000,000 are accepted" in answer.body.decode()


def test_a_picture_that_needs_more_memory_than_decoding_may_use_is_refused(server: Any, call_http: Any) -> None:
    answer = call_http(server, CLASSIFY, png(4400, 4400), {"Content-Type": "image/png"})
    assert "at most 67,108,864 are allowed (--max-decode-mib)" in answer.body.decode()


def test_headers_of_more_than_the_default_are_taken(server: Any) -> None:
    """For clients whose tokens or trace context are large."""
    metadata = [("x-large", "a" * 20 * 1024)]
    assert server.stub().ServerLive(pb.ServerLiveRequest(), metadata=metadata, timeout=TIMEOUT_S).live


def test_warming_without_memory_times_no_larger_batch(server: Any) -> None:
    line = next(line for line in server.events() if line["event"] == "model loaded" and line["model"] == "mnist-cnn")
    assert (line["measured_up_to"], line["measuring_ended_by"]) == (1, "--warmup-mib")


def test_files_of_a_load_beyond_the_limit_are_refused(server: Any) -> None:
    request = pb.RepositoryModelLoadRequest(model_name="sent")
    request.parameters["config"].string_param = "{}"
    request.parameters["file:1/model.onnx"].bytes_param = bytes(1024 * 1024 + 1)
    code, said = refusal(lambda: server.stub().RepositoryModelLoad(request, timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "--max-load-files-mib" in said


def test_requests_that_cannot_keep_the_latency_target_are_refused_at_once(
    tmp_path: Path, start_server: Callable[..., Any], root: Path
) -> None:
    (tmp_path / "mnist-cnn").symlink_to(root / "models" / "mnist-cnn")
    server = start_server(tmp_path, "--target-p99-ms", "0.001")
    request = pb.ModelInferRequest(model_name="mnist-cnn", raw_input_contents=[bytes(784)])
    request.inputs.add(name="image", datatype="UINT8", shape=(1, 28, 28, 1))
    code, said = refusal(lambda: server.stub().ModelInfer(request, timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "latency target" in said
    # No request can be served, which the log says before the first one comes.
    reasons = [str(event.get("reason")) for event in server.events() if event["event"] == "not as asked"]
    assert any("the latency target of 0.001 ms cannot be kept, so every request is refused" in each for each in reasons)


def test_under_overload_requests_are_refused_once_they_would_wait_longer_than_the_limit(
    tmp_path: Path, start_server: Callable[..., Any], root: Path
) -> None:
    (tmp_path / "cifar10").symlink_to(root / "models" / "cifar10")
    server = start_server(tmp_path, "--shed-delay-ms", "1")
    images = np.zeros((64, 32, 32, 3), np.uint8)
    request = pb.ModelInferRequest(model_name="cifar10", raw_input_contents=[images.tobytes()])
    request.inputs.add(name="image", datatype="UINT8", shape=images.shape)
    stub = server.stub()

    def status(_: int) -> str:
        try:
            # Without a deadline, which would be another reason to refuse it.
            stub.ModelInfer(request)
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"

    with ThreadPoolExecutor(40) as senders:
        statuses = set(senders.map(status, range(80)))
    assert statuses == {"OK", "RESOURCE_EXHAUSTED"}
