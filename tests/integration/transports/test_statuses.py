"""Every status of a call: its code, message and details."""

import re
import uuid
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import grpc
import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve_server.api.status import CODES

TIMEOUT_S = 60

Refusal = Callable[[Callable[[], object]], Any]


def size_tensor(size: int) -> dict[str, Any]:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="INT64", shape=[1])
    return {"inputs": [tensor], "raw": [np.array([size], "<i8").tobytes()]}


# A request that differs from a good one of the doubler, its status, and a pattern of the whole message.
WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown model": ({"model": "none"}, "NOT_FOUND", 'there is no model "none"; this server has .*doubler.*'),
    "unknown version": ({"model_version": "7"}, "NOT_FOUND", "model doubler has no version 7; it has 1"),
    "failed version": (
        {"model": "damaged", "model_version": "1"},
        "UNAVAILABLE",
        "version 1 of model damaged failed to load.*",
    ),
    "wrong request": ({"raw": [bytes(15)]}, "INVALID_ARGUMENT", ".* 15 raw bytes; its shape and datatype make 16.*"),
    "late request": (
        {"model": "patient", "parameters": {"timeout": pb.InferParameter(int64_param=1000)}},
        "DEADLINE_EXCEEDED",
        ".*the deadline passed.*",
    ),
    "unexpected error": (
        {"model": "hungry", **size_tensor(1 << 45)},
        "INTERNAL",
        "hungry version 1: the model failed to run; the server's log has the details under [0-9a-f]{12}",
    ),
}

COVERED = {
    "NOT_FOUND",
    "UNAVAILABLE",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "INTERNAL",
    "RESOURCE_EXHAUSTED",
    "UNIMPLEMENTED",
    "ALREADY_EXISTS",
    "CANCELLED",
    # In test_tokens.py.
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
}


@pytest.fixture(scope="module")
def stub(served: Any) -> Any:
    return served.stub()


@pytest.fixture
def waiting(served: Any, stub: Any, make_request: Any, eventually: Any) -> Iterator[Any]:
    """A request that fills the queue of `narrow` until the test ends."""
    call = stub.ModelInfer.future(make_request("narrow"), timeout=TIMEOUT_S)
    eventually(lambda: served.pending("narrow") == 1)
    yield call
    call.cancel()
    eventually(lambda: served.pending("narrow") == 0)


def test_every_code_of_the_table_is_tried_here() -> None:
    assert {code.name for code in CODES.values()} == COVERED


@pytest.mark.parametrize(("changes", "code", "said"), WRONG.values(), ids=WRONG)
def test_a_refusal_has_its_code_and_its_message(
    stub: Any, make_request: Any, refusal: Refusal, changes: dict[str, Any], code: str, said: str
) -> None:
    error = refusal(lambda: stub.ModelInfer(make_request(**changes), timeout=TIMEOUT_S))
    assert error.code().name == code
    assert re.fullmatch(said, error.details()), error.details()
    assert "grpc-retry-pushback-ms" not in dict(error.trailing_metadata())


@pytest.mark.usefixtures("waiting")
def test_a_full_queue_says_when_to_come_back(stub: Any, make_request: Any, refusal: Refusal) -> None:
    error = refusal(lambda: stub.ModelInfer(make_request("narrow"), timeout=TIMEOUT_S))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "narrow" in error.details()
    trailing = dict(error.trailing_metadata())
    assert int(trailing["grpc-retry-pushback-ms"]) > 0
    assert trailing["retry-pushback-ms"] == trailing["grpc-retry-pushback-ms"]


@pytest.mark.usefixtures("waiting")
def test_a_client_that_retries_comes_back_by_itself(served: Any, make_request: Any, eventually: Any) -> None:
    """gRPC's own retries go by the pushback: without it, the second of five attempts would be made in an hour."""
    policy = (
        '{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 5, "initialBackoff": "3600s", '
        '"maxBackoff": "3600s", "backoffMultiplier": 1, "retryableStatusCodes": ["RESOURCE_EXHAUSTED"]}}]}'
    )
    stub = served.stub(service_config=policy)
    refused = stub.ModelInfer.future(make_request("narrow"), timeout=TIMEOUT_S)
    assert refused.exception(TIMEOUT_S).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_name_that_is_taken(served: Any, stub: Any, refusal: Refusal) -> None:
    memory = SharedMemory(f"pixelserve-test-{uuid.uuid4().hex}", create=True, size=64)
    try:
        request = pb.SystemSharedMemoryRegisterRequest(name=memory.name, key=f"/{memory.name}", byte_size=64)
        stub.SystemSharedMemoryRegister(request, timeout=TIMEOUT_S)
        error = refusal(lambda: stub.SystemSharedMemoryRegister(request, timeout=TIMEOUT_S))
        assert error.code() is grpc.StatusCode.ALREADY_EXISTS
        assert error.details() == f"shared memory region {memory.name} is registered already; unregister it first"
        stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest(name=memory.name), timeout=TIMEOUT_S)
    finally:
        memory.close()
        memory.unlink()


@pytest.mark.parametrize(
    "method",
    [
        "/inference.GRPCInferenceService/NoSuchMethod",
        "/inference.GRPCInferenceService/modelinfer",
        "/inference.NoSuchService/ModelInfer",
        "/grpc.health.v1.Health/List",
        "/ModelInfer",
        "/",
        "/inference.GRPCInferenceService/ModelInfer/",
        "/inference.GRPCInferenceService/ModelInfer?x=1",
        "/inference.GRPCInferenceService/Model%49nfer",
    ],
)
@pytest.mark.parametrize("kind", ["unary_unary", "stream_stream"])
def test_a_method_that_is_not_served(served: Any, refusal: Refusal, method: str, kind: str) -> None:
    channel = served.channel()
    if kind == "unary_unary":
        error = refusal(lambda: channel.unary_unary(method)(b"", timeout=TIMEOUT_S))
    else:
        error = refusal(lambda: list(channel.stream_stream(method)(iter([b""]), timeout=TIMEOUT_S)))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_feature_that_is_not_served(stub: Any, refusal: Refusal) -> None:
    request = pb.RepositoryModelLoadRequest(repository_name="other", model_name="doubler")
    error = refusal(lambda: stub.RepositoryModelLoad(request, timeout=TIMEOUT_S))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert error.details()


@pytest.mark.parametrize(
    "name", ["kühe", "☃", "𝄞", "100 % süß", "%41", "a\nb", "a\r\nb", 'a"b\\c', "\x7f", "x\ty", "ü" * 5000]
)
def test_a_message_may_hold_any_character(stub: Any, make_request: Any, refusal: Refusal, name: str) -> None:
    """On the wire they are percent-encoded. A message of more than 2,000 bytes is cut between two characters."""
    error = refusal(lambda: stub.ModelInfer(make_request(name), timeout=TIMEOUT_S))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    whole = f'there is no model "{name}"'
    assert error.details().startswith(whole) or error.details() == f"{whole[: len(error.details()) - 1]}…"


def test_the_client_left(served: Any, stub: Any, make_request: Any, eventually: Any) -> None:
    """Timeline: 1. a request waits for company; 2. its client leaves; 3. it is dropped and counted as cancelled."""
    failed = {"model": "roomy", "reason": "CANCELED"}
    before = served.metric("nv_inference_request_failure", **failed)
    call = stub.ModelInfer.future(make_request("roomy"), timeout=TIMEOUT_S)
    eventually(lambda: served.pending("roomy") == 1)
    call.cancel()
    assert call.code() is grpc.StatusCode.CANCELLED
    eventually(lambda: served.pending("roomy") == 0)
    eventually(lambda: served.metric("nv_inference_request_failure", **failed) == before + 1)
