"""Timings per request, with a real server process."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc

TIMEOUT_S = 30
ASKED = {"pixelserve_timings": pb.InferParameter(bool_param=True)}
COUNTS = {
    "pixelserve-batch-size": "3",
    "pixelserve-bucket": "4",
    "pixelserve-provider": "CPUExecutionProvider",
    "pixelserve-version": "1",
}
TIMES = {"pixelserve-queue-us", "pixelserve-compute-us"}


@pytest.fixture(scope="module")
def stub(
    start_module_server: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    model_writer: Callable[..., Path],
) -> Iterator[Any]:
    """A model, `patient`, that waits for three rows, and pads them to four."""
    path = tmp_path_factory.mktemp("repository")
    model_writer(path / "patient" / "1" / "model.onnx")
    (path / "patient" / "config.pbtxt").write_text(
        "max_batch_size: 4 dynamic_batching { preferred_batch_size: 3 max_queue_delay_microseconds: 3600000000 }"
    )
    server = start_module_server(path, "--batch-buckets", "4", "--device", "cpu")
    with grpc.insecure_channel(server.grpc) as channel:
        yield inference_pb2_grpc.GRPCInferenceServiceStub(channel)


def told(metadata: Any) -> dict[str, str]:
    return {key: value for key, value in metadata if key.startswith("pixelserve-")}


def check(found: dict[str, str]) -> None:
    assert found.keys() == COUNTS.keys() | TIMES
    assert {key: found[key] for key in COUNTS} == COUNTS
    assert all(int(found[key]) >= 0 for key in TIMES)


def test_only_a_request_that_asks_gets_its_runs_timings(stub: Any, make_request: Any) -> None:
    """Twice, since the second head is one that is remembered."""
    for _ in range(2):
        asking = stub.ModelInfer.future(make_request("patient", parameters=ASKED, id="7"), timeout=TIMEOUT_S)
        mate = stub.ModelInfer.future(make_request("patient", rows=2), timeout=TIMEOUT_S)
        assert asking.result().id == "7"
        assert len(mate.result().outputs) == 1
        check(told(asking.trailing_metadata()))
        assert told(mate.trailing_metadata()) == {}


def test_on_a_stream_timings_are_parameters(stub: Any, make_request: Any) -> None:
    requests = [make_request("patient", rows=2), make_request("patient", parameters=ASKED)]
    mate, asking = stub.ModelStreamInfer(iter(requests), timeout=TIMEOUT_S)
    parameters = asking.infer_response.parameters
    check(told((key, value.string_param) for key, value in parameters.items()))
    assert parameters["triton_final_response"].bool_param
    assert list(mate.infer_response.parameters) == ["triton_final_response"]


def test_one_that_asks_not_to_be_told_is_not(stub: Any, make_request: Any) -> None:
    not_asked = {"pixelserve_timings": pb.InferParameter(bool_param=False)}
    call = stub.ModelInfer.future(make_request("patient", rows=3, parameters=not_asked), timeout=TIMEOUT_S)
    assert len(call.result().outputs) == 1
    assert told(call.trailing_metadata()) == {}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (pb.InferParameter(int64_param=1), "pixelserve_timings came as int64_param; expected bool_param"),
        (pb.InferParameter(string_param="true"), "came as string_param"),
        (pb.InferParameter(), "came as nothing"),
    ],
)
def test_a_wish_of_another_type_is_refused(stub: Any, make_request: Any, value: pb.InferParameter, said: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(make_request("patient", parameters={"pixelserve_timings": value}), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert said in caught.value.details()
    assert told(caught.value.trailing_metadata()) == {}
