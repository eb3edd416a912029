"""Authorisation by tokens: the statuses over gRPC and HTTP."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pixelserve.oip import inference_pb2 as pb
from pixelserve.tokens import Scope, Token, digest_of

pytestmark = pytest.mark.parametrize("security", ["plain", "tls", "mtls"], indirect=True)
TIMEOUT_S = 60
SECRETS = {name: f"ps_{name}-of-the-contract" for name in ("all", "infer", "observe", "other", "slow")}

Refusal = Callable[[Callable[[], object]], Any]


def bearer(*names: str) -> list[tuple[str, str]]:
    # No header of HTTP/2 ends in a space (RFC 9113, section 8.2.1); h2corn resets a call with one.
    return [("authorization", f"Bearer {SECRETS.get(name, name)}".rstrip()) for name in names]


@pytest.fixture(scope="module")
def guarded(start_module_server: Any, launch: Any, models: Path, tmp_path_factory: Any) -> Iterator[Any]:
    """A server that takes these tokens and no others."""
    known: list[tuple[str, set[Scope], dict[str, Any]]] = [
        ("all", set(Scope), {}),
        ("infer", {Scope.INFER}, {}),
        ("observe", {Scope.OBSERVE}, {}),
        ("other", {Scope.INFER}, {"models": frozenset({"free"})}),
        ("slow", {Scope.INFER}, {"rate": 0.001}),
    ]
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    lines = [Token(digest_of(SECRETS[name]), name, frozenset(scopes), **more).line() for name, scopes, more in known]
    tokens.write_text("".join(f"{line}\n" for line in lines))
    with launch(start_module_server, models, "--no-exit-on-error", "--tokens", str(tokens)) as one:
        yield one


@pytest.fixture(scope="module")
def channel(guarded: Any) -> grpc.Channel:
    """A channel that adds no token."""
    return guarded.channel(token="")


@pytest.fixture
def infer(channel: grpc.Channel, make_request: Any) -> Callable[..., pb.ModelInferResponse]:
    """Calls the doubler with whatever tokens."""
    method = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        pb.ModelInferRequest.SerializeToString,
        pb.ModelInferResponse.FromString,
    )
    return lambda *names: method(make_request(), metadata=bearer(*names), timeout=TIMEOUT_S)


def test_a_token_with_the_scope_is_let_in(infer: Any) -> None:
    assert infer("infer").outputs


@pytest.mark.parametrize(
    "names", [(), ("ps_unknown",), ("infer", "infer"), ("",)], ids=["none", "unknown", "two", "empty"]
)
def test_a_call_without_a_known_token_is_unauthenticated(infer: Any, refusal: Refusal, names: tuple[str, ...]) -> None:
    error = refusal(lambda: infer(*names))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "ps_" not in error.details().replace("Bearer ps_", "")


def test_a_request_without_a_token_is_refused_before_it_is_whole(
    guarded: Any, channel: grpc.Channel, infer: Any, refusal: Refusal
) -> None:
    """It could otherwise take the room that is meant for requests of others, for as long as it likes."""
    is_answered = threading.Event()

    def never_whole() -> Iterator[bytes]:
        # grpcio does not report partial messages, and must refuse the call without having seen any.
        if guarded.transport != "grpcio":
            yield bytes(1 << 20)
        is_answered.wait(TIMEOUT_S)

    method = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
    for names in ((), ("ps_unknown",)):
        error = refusal(lambda names=names: method(never_whole(), metadata=bearer(*names), timeout=TIMEOUT_S / 2))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    is_answered.set()
    assert infer("infer").outputs


@pytest.mark.parametrize("name", ["observe", "other"], ids=["another scope", "another model"])
def test_a_token_for_something_else_is_not_enough(infer: Any, refusal: Refusal, name: str) -> None:
    assert refusal(lambda: infer(name)).code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_token_above_its_rate_gets_a_retry_time(infer: Any, refusal: Refusal) -> None:
    assert infer("slow").outputs
    error = refusal(lambda: infer("slow"))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) > 1000


def test_health_and_reflection_need_no_token(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="doubler")
    assert stub.Check(request, timeout=TIMEOUT_S).status == health_pb2.HealthCheckResponse.SERVING
    watch = stub.Watch(request, timeout=TIMEOUT_S)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def test_each_request_of_a_stream_is_checked(channel: grpc.Channel, make_request: Any) -> None:
    stream = channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        pb.ModelInferRequest.SerializeToString,
        pb.ModelStreamInferResponse.FromString,
    )
    refused, answered = stream(
        iter([make_request(), make_request("free", inputs=FREE, raw=[bytes(4)])]),
        metadata=bearer("other"),
        timeout=TIMEOUT_S,
    )
    assert refused.error_message.startswith("PERMISSION_DENIED: ")
    assert answered.error_message == ""


FREE = [pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 1])]


@pytest.mark.parametrize(("name", "status"), [("infer", 200), ("", 401), ("ps_unknown", 401), ("observe", 403)])
def test_the_same_over_http(guarded: Any, name: str, status: int) -> None:
    assert guarded.http("/v2/models/doubler", token=SECRETS.get(name, name)).status == status
