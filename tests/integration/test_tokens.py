"""Tokens on every port of a real server: gRPC over both transports, HTTP, and metrics."""

import json
import queue
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc
from pixelserve.tokens import Scope, Token, digest_of
from pixelserve.v1 import classifier_pb2 as v1

TIMEOUT_S = 60
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
Code = grpc.StatusCode

SECRETS = {name: f"ps_{name}-secret-of-these-tests" for name in ("infer", "observe", "control", "limited", "slow")}


def line(name: str, *scopes: Scope, **fields: Any) -> str:
    return Token(digest_of(SECRETS[name]), name, frozenset(scopes), **fields).line() + "\n"


def lines() -> dict[str, str]:
    return {
        "infer": line("infer", Scope.INFER),
        "observe": line("observe", Scope.OBSERVE),
        "control": line("control", Scope.CONTROL),
        "limited": line("limited", Scope.INFER, Scope.OBSERVE, models=frozenset({"doubler"})),
        "slow": line("slow", Scope.INFER, rate=0.001),
    }


def bearer(name: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {SECRETS[name]}")]


def shows_no_token(server: Any) -> None:
    logged = "".join(server.lines)
    assert not [name for name, secret in SECRETS.items() if secret in logged or digest_of(secret) in logged]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, model_writer: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for name in ("doubler", "other"):
        model_writer(folder / name / "1" / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def server(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, start_module_server: Callable[..., Any]
) -> Iterator[Any]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text("".join(lines().values()))
    started = start_module_server(repository, "--tokens", str(tokens), "--model-control-mode", "explicit")
    yield started
    assert started.stop() == 0
    shows_no_token(started)


@pytest.fixture(scope="module")
def channel(server: Any) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as channel:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        for name in ("doubler", "other"):
            asked = pb.RepositoryModelLoadRequest(model_name=name)
            stub.RepositoryModelLoad(asked, metadata=bearer("control"), timeout=TIMEOUT_S)
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> inference_pb2_grpc.GRPCInferenceServiceStub:
    return inference_pb2_grpc.GRPCInferenceServiceStub(channel)


def code_of(call: Any, request: Any, metadata: Any) -> Code:
    try:
        call(request, metadata=metadata, timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        details, code = error.details(), error.code()
    else:
        return Code.OK
    assert not [secret for secret in SECRETS.values() if secret in details]
    return code


def test_each_scope_opens_its_methods(stub: Any, make_request: Callable[..., Any]) -> None:
    log_info = {"log_info": pb.LogSettingsRequest.SettingValue(bool_param=True)}
    expected: list[tuple[str, Any, set[str]]] = [
        ("ModelInfer", make_request(), {"infer"}),
        ("ModelMetadata", pb.ModelMetadataRequest(name="doubler"), {"infer"}),
        ("ModelConfig", pb.ModelConfigRequest(name="doubler"), {"infer"}),
        ("ModelReady", pb.ModelReadyRequest(name="doubler"), {"infer", "observe", "control"}),
        ("ServerMetadata", pb.ServerMetadataRequest(), {"infer", "observe", "control"}),
        ("ModelStatistics", pb.ModelStatisticsRequest(), {"observe"}),
        ("RepositoryIndex", pb.RepositoryIndexRequest(), {"observe", "control"}),
        ("LogSettings", pb.LogSettingsRequest(), {"observe", "control"}),
        ("LogSettings", pb.LogSettingsRequest(settings=log_info), {"control"}),
        ("TraceSetting", pb.TraceSettingRequest(), {"observe", "control"}),
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="doubler"), {"control"}),
        ("CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest(), {"control"}),
        ("ServerLive", pb.ServerLiveRequest(), {"infer", "observe", "control", "nobody"}),
        ("ServerReady", pb.ServerReadyRequest(), {"infer", "observe", "control", "nobody"}),
    ]
    for method, request, allowed in expected:
        for name in ("infer", "observe", "control"):
            code = code_of(getattr(stub, method), request, bearer(name))
            assert code is (Code.OK if name in allowed else Code.PERMISSION_DENIED), (method, name)
        code = code_of(getattr(stub, method), request, [])
        assert code is (Code.OK if "nobody" in allowed else Code.UNAUTHENTICATED), method


def test_health_and_reflection_are_open(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S).status == 1
    watched = health.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    assert next(watched).status == 1
    watched.cancel()


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        ["Bearer"],
        [SECRETS["infer"]],
        [f"Basic {SECRETS['infer']}"],
        ["Bearer unknown"],
        [f"Bearer {SECRETS['infer']}x"],
        [f"Bearer {SECRETS['infer']}"] * 2,
        [f"Bearer {SECRETS['infer']}", "Bearer unknown"],
        [f"Bearer {SECRETS['infer']}, Bearer {SECRETS['infer']}"],
        ["Bearer " + "a" * 4000],
    ],
    ids=lambda values: ", ".join(values)[:30] or "none",
)
def test_what_is_not_one_good_token_is_unauthenticated(
    server: Any, stub: Any, make_request: Callable[..., Any], values: list[str]
) -> None:
    metadata = [("authorization", value) for value in values]
    assert code_of(stub.ModelInfer, make_request(), metadata) is Code.UNAUTHENTICATED
    head = "".join(f"Authorization: {value}\r\n" for value in values)
    status, headers, body = raw_http(server, f"GET /v2/models/doubler HTTP/1.1\r\n{head}")
    assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="pixelserve"')
    assert list(json.loads(body)) == ["error"]
    assert code_of(stub.ModelInfer, make_request(), bearer("infer")) is Code.OK


def raw_http(server: Any, head: str | bytes, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Sends a raw request on a new connection, and returns the answer."""
    url = urlsplit(server.http)
    written = head if isinstance(head, bytes) else head.encode()
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=TIMEOUT_S) as connection:
        connection.sendall(written + f"Host: {url.netloc}\r\nConnection: close\r\n\r\n".encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    first, _, rest = answer.partition(b"\r\n")
    headers, _, content = rest.partition(b"\r\n\r\n")
    fields = dict(each.split(": ", 1) for each in headers.decode("latin-1").split("\r\n"))
    return int(first.split()[1]), {name.lower(): value for name, value in fields.items()}, content


@pytest.mark.parametrize("value", [b"Bearer \xff\xfe", "Bearer ps_ünïcode".encode(), b"\xf0\x9f\x94\x91"])
def test_a_header_that_is_not_ascii_costs_its_sender_only(server: Any, value: bytes) -> None:
    head = b"GET /v2/models/doubler HTTP/1.1\r\nAuthorization: " + value + b"\r\n"
    assert raw_http(server, head)[0] in (400, 401)
    good = f"Authorization: Bearer {SECRETS['infer']}\r\n"
    assert raw_http(server, "GET /v2/models/doubler HTTP/1.1\r\n" + good)[0] == 200


def test_a_header_of_ten_megabytes_costs_its_sender_only(
    server: Any, stub: Any, make_request: Callable[..., Any]
) -> None:
    url = urlsplit(server.http)
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=TIMEOUT_S) as connection:
        try:
            connection.sendall(b"GET /v2/models/doubler HTTP/1.1\r\nAuthorization: Bearer " + b"a" * 10_000_000)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65536)
        except OSError:
            # It was closed before it was read whole.
            answer = b""
    assert not answer or answer.split()[1] in (b"400", b"401", b"431")
    code = code_of(stub.ModelInfer, make_request(), [("authorization", "Bearer " + "a" * 10_000_000)])
    assert code is not Code.OK
    assert code_of(stub.ModelInfer, make_request(), bearer("infer")) is Code.OK


def test_http_has_the_same_scopes(server: Any, channel: grpc.Channel, call_http: Callable[..., Any]) -> None:
    values = {"name": "values", "datatype": "FP32", "shape": [1, 4], "data": [0, 1, 2, 3]}
    expected: list[tuple[str, Any, set[str]]] = [
        ("/v2/models/doubler/infer", {"inputs": [values]}, {"infer"}),
        ("/v2/models/doubler", None, {"infer"}),
        ("/v2/models/doubler/config", None, {"infer"}),
        ("/v2/models/doubler/ready", None, {"infer", "observe", "control"}),
        ("/v2", None, {"infer", "observe", "control"}),
        ("/v2/models/doubler/stats", None, {"observe"}),
        ("/v2/models/stats", None, {"observe"}),
        ("/v1/models", None, {"infer"}),
        ("/v1/figures", None, {"observe"}),
        ("/v2/repository/index", {}, {"observe", "control"}),
        ("/v2/repository/models/doubler/load", {}, {"control"}),
        ("/v2/cudasharedmemory/status", None, {"control"}),
        ("/v2/health/live", None, {"infer", "observe", "control", "nobody"}),
        ("/v2/health/ready", None, {"infer", "observe", "control", "nobody"}),
        ("/openapi.json", None, {"infer", "observe", "control", "nobody"}),
        ("/docs", None, {"infer", "observe", "control", "nobody"}),
        ("/", None, {"infer", "observe", "control", "nobody"}),
    ]
    for path, body, allowed in expected:
        for name in ("infer", "observe", "control"):
            answer = call_http(server, path, body, dict(bearer(name)))
            assert answer.status == (200 if name in allowed else 403), (path, name, answer.body)
        answer = call_http(server, path, body)
        assert answer.status == (200 if "nobody" in allowed else 401), path
        if answer.status == 401:
            assert answer.error.startswith("this server requires a token")


def test_a_body_is_not_read_for_a_caller_without_a_token(server: Any) -> None:
    """It is announced and never sent: the answer cannot be about it."""
    status, _, body = raw_http(server, "POST /v2/models/doubler/infer HTTP/1.1\r\nContent-Length: 50000000\r\n")
    assert (status, b"requires a token" in body) == (401, True)


def test_a_token_limited_to_a_model_sees_no_other(
    server: Any, channel: grpc.Channel, stub: Any, make_request: Callable[..., Any], call_http: Callable[..., Any]
) -> None:
    limited = bearer("limited")
    assert code_of(stub.ModelInfer, make_request(), limited) is Code.OK
    for name in ("other", "none", ""):
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(make_request(name), metadata=limited, timeout=TIMEOUT_S)
        assert caught.value.code() is Code.PERMISSION_DENIED
        assert caught.value.details().startswith("token limited is for doubler only; ")
    # The head is known now, and so are its plans: what others may do opens nothing.
    assert code_of(stub.ModelInfer, make_request("other"), bearer("infer")) is Code.OK
    assert code_of(stub.ModelInfer, make_request("other"), limited) is Code.PERMISSION_DENIED
    classify = channel.unary_unary("/pixelserve.v1.Classifier/Classify", v1.ClassifyRequest.SerializeToString)
    assert code_of(classify, v1.ClassifyRequest(model="other"), limited) is Code.PERMISSION_DENIED
    assert call_http(server, "/v2/models/other/config", None, dict(limited)).status == 403

    index = stub.RepositoryIndex(pb.RepositoryIndexRequest(), metadata=limited, timeout=TIMEOUT_S)
    assert {each.name for each in index.models} == {"doubler"}
    statistics = stub.ModelStatistics(pb.ModelStatisticsRequest(), metadata=limited, timeout=TIMEOUT_S)
    assert {each.name for each in statistics.model_stats} == {"doubler"}
    listing = channel.unary_unary(
        "/pixelserve.v1.Classifier/ListModels",
        v1.ListModelsRequest.SerializeToString,
        v1.ListModelsResponse.FromString,
    )
    assert {each.name for each in listing(v1.ListModelsRequest(), metadata=limited).versions} == {"doubler"}
    assert code_of(listing, v1.ListModelsRequest(name="other"), limited) is Code.PERMISSION_DENIED
    assert code_of(stub.LogSettings, pb.LogSettingsRequest(), limited) is Code.PERMISSION_DENIED


def test_a_rate_is_kept_and_says_when_to_come_back(
    server: Any, stub: Any, make_request: Callable[..., Any], call_http: Callable[..., Any]
) -> None:
    # The first of the parametrised runs uses the only one per 1,000 s.
    code_of(stub.ModelInfer, make_request(), bearer("slow"))
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(make_request(), metadata=bearer("slow"), timeout=TIMEOUT_S)
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED
    assert caught.value.details() == "token slow may be used 0.001 times per second; retry later"
    pushback_ms = dict(caught.value.trailing_metadata())["retry-pushback-ms"]
    assert 900_000 < int(pushback_ms) <= 1_000_000
    answer = call_http(server, "/v2/models/doubler", None, dict(bearer("slow")))
    assert (answer.status, 900 < int(answer.headers["retry-after"]) <= 1000) == (429, True)
    assert code_of(stub.ModelInfer, make_request(), bearer("infer")) is Code.OK


def get(url: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=TIMEOUT_S) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read().decode()


def test_the_metrics_page_needs_observe_and_the_probes_nothing(
    server: Any, stub: Any, make_request: Callable[..., Any]
) -> None:
    assert code_of(stub.ModelInfer, make_request(), [("authorization", "Bearer unknown")]) is Code.UNAUTHENTICATED
    base = server.metrics.removesuffix("/metrics")
    assert [get(base + path)[0] for path in ("/live", "/ready")] == [200, 200]
    status, headers, text = get(server.metrics)
    assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="pixelserve"')
    assert text.startswith("this server requires a token")
    assert get(server.metrics, {"Authorization": "Basic eDp5"})[0] == 401
    assert get(server.metrics, dict(bearer("infer")))[0] == 403
    # It shows all models.
    assert get(server.metrics, dict(bearer("limited")))[0] == 403
    status, _, page = get(server.metrics, dict(bearer("observe")))
    assert status == 200
    assert f"pixelserve_tokens {float(len(SECRETS))}" in page
    assert "pixelserve_tokens_stale 0.0" in page
    assert 'code="UNAUTHENTICATED",method="ModelInfer",reason="unauthenticated"' in page
    assert 'code="UNAUTHENTICATED",method="HTTP",reason="unauthenticated"' in page
    assert 'code="PERMISSION_DENIED",method="HTTP",reason="permission_denied"' in page
    assert not [secret for secret in SECRETS.values() if secret in page or digest_of(secret) in page]


def test_a_token_may_be_replaced_while_streams_are_open(
    repository: Path,
    tmp_path: Path,
    start_server: Callable[..., Any],
    make_request: Callable[..., Any],
    eventually: Callable[..., None],
) -> None:
    """Timeline: 1. a stream is open and answered; 2. its token is revoked; 3. its next request fails, and it ends;
    4. a stream of another token continues."""
    tokens = tmp_path / "tokens"
    tokens.write_text(lines()["infer"] + lines()["limited"] + lines()["observe"])
    server = start_server(repository, "--tokens", str(tokens))
    with grpc.insecure_channel(server.grpc) as channel:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        revoked, other = Stream(channel, "infer"), Stream(channel, "limited")
        for stream in (revoked, other):
            stream.send(make_request(id="1"))
            assert stream.receive().infer_response.id == "1"

        beside = tmp_path / "tokens.new"
        beside.write_text(lines()["limited"] + lines()["observe"])
        beside.replace(tokens)
        eventually(lambda: code_of(stub.ModelInfer, make_request(), bearer("infer")) is Code.UNAUTHENTICATED)

        revoked.send(make_request(id="2"))
        answer = revoked.receive()
        assert answer.error_message == "UNAUTHENTICATED: the token is unknown: mistyped, or revoked"
        assert answer.infer_response.id == "2"
        with pytest.raises(grpc.RpcError) as caught:
            revoked.receive()
        assert caught.value.code() is Code.UNAUTHENTICATED

        other.send(make_request(id="2"))
        assert other.receive().infer_response.id == "2"
        # A request for another model gets an error, and the stream continues.
        other.send(make_request("other", id="3"))
        assert other.receive().error_message.startswith("PERMISSION_DENIED: token limited is for doubler only")
        other.send(make_request(id="4"))
        assert other.receive().infer_response.id == "4"
        other.close()

        # A partially written file revokes nothing.
        tokens.write_text(lines()["observe"] + lines()["limited"][:-1])
        stale = dict(bearer("observe"))
        eventually(lambda: "pixelserve_tokens_stale 1.0" in get(server.metrics, stale)[2])
        assert code_of(stub.ModelInfer, make_request(), bearer("limited")) is Code.OK
        assert "pixelserve_tokens_refused_files_total 1.0" in get(server.metrics, stale)[2]
    assert server.stop() == 0
    (refused,) = [event for event in server.events() if event["event"] == "tokens file refused"]
    assert "no line end" in str(refused["reason"])
    # Whose token a call came with is in the log by name.
    assert {event["token"] for event in server.events() if event["event"] == "request" and "token" in event} >= {
        "infer"
    }
    shows_no_token(server)


class Stream:
    """A stream with a token, whose requests are sent one by one."""

    def __init__(self, channel: grpc.Channel, name: str) -> None:
        self._requests: queue.Queue[bytes | None] = queue.Queue()
        requests = iter(self._requests.get, None)
        self.call = channel.stream_stream(STREAM)(requests, metadata=bearer(name), timeout=TIMEOUT_S)

    def send(self, request: pb.ModelInferRequest) -> None:
        self._requests.put(request.SerializeToString())

    def receive(self) -> pb.ModelStreamInferResponse:
        return pb.ModelStreamInferResponse.FromString(next(self.call))

    def close(self) -> None:
        self._requests.put(None)
        assert not list(self.call)


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ([], Code.UNAUTHENTICATED),
        ([("authorization", "Bearer unknown")], Code.UNAUTHENTICATED),
        (bearer("observe"), Code.PERMISSION_DENIED),
    ],
    ids=["none", "unknown", "observe"],
)
def test_a_stream_is_not_opened_without_a_token_for_it(
    channel: grpc.Channel, make_request: Callable[..., Any], metadata: Any, code: Code
) -> None:
    requests = iter([make_request().SerializeToString()])
    with pytest.raises(grpc.RpcError) as caught:
        next(channel.stream_stream(STREAM)(requests, metadata=metadata, timeout=TIMEOUT_S))
    assert caught.value.code() is code


def test_a_server_without_tokens_takes_any(
    repository: Path, start_server: Callable[..., Any], make_request: Callable[..., Any]
) -> None:
    server = start_server(repository)
    assert code_of(server.stub().ModelInfer, make_request(), bearer("infer")) is Code.OK
    status, _, page = get(server.metrics)
    assert (status, "\npixelserve_tokens " in page) == (200, False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], r"--host 0\.0\.0\.0 can be reached .* no TLS and no tokens; add --tls-cert"),
        (["--host", "::"], r"--host :: can be reached by other machines"),
        (["--tokens", "missing"], r"--tokens missing: cannot be read: No such file"),
        (["--tokens", "."], r"--tokens \.: it is not a file"),
    ],
    ids=["every network", "IPv6", "no file", "a folder"],
)
def test_a_server_does_not_start_open_or_without_its_tokens(
    repository: Path, failing_serve: Callable[..., Any], arguments: list[str], said: str
) -> None:
    failure = failing_serve("--model-repository", str(repository), *arguments)
    assert failure.code == 2
    assert re.search(said, failure.message), failure.message


@pytest.mark.slow
def test_insecure_serves_every_network_and_warns_once(repository: Path, start_server: Callable[..., Any]) -> None:
    server = start_server(repository, "--host", "0.0.0.0", "--insecure")
    assert server.stop() == 0
    (warning,) = [event for event in server.events() if event["event"] == "insecure"]
    assert warning["level"] == "warning"
    assert warning["reason"] == "other machines can reach 0.0.0.0 without TLS and without tokens"
