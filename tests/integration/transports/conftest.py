"""What the contract of the transports shares: one server for each transport, and how its clients reach it.

Every test here runs over every transport, in the clear and by TLS; those of methods, HTTP, tokens and other clients by
mutual TLS as well, which differs in who may connect and not in what is said then. Everything else in tests/ runs once.
"""

import http.client
import json
import ssl
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio
import pytest
from forwarder import Forwarder

from pixelserve.oip import inference_pb2_grpc
from pixelserve.tokens import Scope, Token, digest_of

TIMEOUT_S = 60
WINDOW = 4
"""Requests of a stream that the shared server reads before it has written their answers."""
TOKEN = "ps_a-token-of-the-contract"


@dataclass(frozen=True)
class Security:
    """How clients reach a server: in the clear, by TLS with a token, or by mutual TLS."""

    name: str
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    token: str = ""
    flags: tuple[str, ...] = ()
    """The server's options."""

    def grpc_credentials(self, token: str) -> grpc.ChannelCredentials | None:
        """Returns a channel's credentials, or None. A non-empty token is sent with every call."""
        if self.ca is None:
            return None
        read = [path and path.read_bytes() for path in (self.ca, self.key, self.cert)]
        channel = grpc.ssl_channel_credentials(*read)
        return (
            grpc.composite_channel_credentials(channel, grpc.access_token_call_credentials(token)) if token else channel
        )

    def tls_context(self) -> ssl.SSLContext | None:
        """The same for Python's HTTP client."""
        if self.ca is None:
            return None
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        return context


@dataclass
class Served:
    """A server process, and its clients."""

    process: Any
    transport: str
    security: Security
    _channels: ExitStack = field(default_factory=ExitStack)

    def channel(self, token: str | None = None, address: str = "", **options: Any) -> grpc.Channel:
        """Returns a channel with its own connection, without a message size limit; closed with the server.

        Args:
            token: goes with every call over TLS; empty: none; None: the one that may do everything.
            address: what leads to the server; empty: its own.
            options: more of grpc's channel options, without their `grpc.`.
        """
        return self._channels.enter_context(self._open(grpc, token, address, options))

    def aio_channel(self, **options: Any) -> grpc.aio.Channel:
        """The same for an event loop, which has to close it."""
        return self._open(grpc.aio, None, "", options)

    def _open(self, library: Any, token: str | None, address: str, options: Mapping[str, Any]) -> Any:
        chosen = {"max_receive_message_length": -1, "max_send_message_length": -1, "use_local_subchannel_pool": 1}
        pairs = [(f"grpc.{name}", value) for name, value in {**chosen, **options}.items()]
        credentials = self.security.grpc_credentials(self.security.token if token is None else token)
        address = address or self.process.grpc
        if credentials is None:
            return library.insecure_channel(address, pairs)
        return library.secure_channel(address, credentials, pairs)

    def stub(self, **options: Any) -> Any:
        """Returns a stub of the inference service on a new channel."""
        return inference_pb2_grpc.GRPCInferenceServiceStub(self.channel(**options))

    def connect_http(self, address: str = "") -> http.client.HTTPConnection:
        """Returns a new connection to the HTTP port, or to its proxy."""
        address, context = address or urlsplit(self.process.http).netloc, self.security.tls_context()
        if context is None:
            return http.client.HTTPConnection(address, timeout=TIMEOUT_S)
        return http.client.HTTPSConnection(address, timeout=TIMEOUT_S, context=context)

    def http_headers(self) -> dict[str, str]:
        """Returns the headers of a request that may do everything."""
        return self._bearer(self.security.token)

    def http(
        self, path: str, body: Any = None, headers: Mapping[str, str] | None = None, token: str | None = None
    ) -> "Answer":
        """Sends an HTTP request on a new connection: POST with a body, which is JSON unless bytes."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = self.connect_http()
        try:
            sent = self._bearer(self.security.token if token is None else token) | dict(headers or {})
            connection.request("GET" if body is None else "POST", path, content, sent)
            answer = connection.getresponse()
            return Answer(answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    @staticmethod
    def _bearer(token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"} if token else {}

    def metric(self, name: str, **labels: str) -> float:
        """Returns the value of the only sample with a name and labels; 0 if there is none yet."""
        request = urllib.request.Request(self.process.metrics, headers=self._bearer(self.security.token))
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as page:
            lines = page.read().decode().splitlines()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        found = [line for line in lines if line.startswith(f"{name}{{") and all(label in line for label in wanted)]
        assert len(found) <= 1, found
        return float(found[0].split()[-1]) if found else 0

    def pending(self, model: str) -> int:
        """Returns how many requests wait for a model."""
        return int(self.metric("nv_inference_pending_request_count", model=model))

    def close(self) -> None:
        self._channels.close()


@dataclass
class Answer:
    """An HTTP answer; its header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture(scope="session")
def refusal() -> Callable[[Callable[[], object]], Any]:
    """Returns the error of a call that must fail."""

    def fail(call: Callable[[], object]) -> Any:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        return caught.value

    return fail


@pytest.fixture(scope="session", params=["grpcio", "h2corn"])
def transport(request: pytest.FixtureRequest) -> str:
    """What --transport names; each must behave as the others."""
    return str(request.param)


@pytest.fixture(scope="session", params=["plain", "tls"])
def security(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Security:
    """How clients reach servers."""
    if request.param == "plain":
        return Security("plain")
    authority = request.getfixturevalue("certificate_authority")
    pair = authority.issue(f"{request.param}-server")
    flags = ("--tls-cert", str(pair.cert), "--tls-key", str(pair.key))
    if request.param == "mtls":
        client = authority.issue("client")
        return Security(
            "mtls", authority.path, client.cert, client.key, flags=(*flags, "--tls-client-ca", str(authority.path))
        )
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(Token(digest_of(TOKEN), "contract", frozenset(Scope)).line() + "\n")
    return Security("tls", authority.path, token=TOKEN, flags=(*flags, "--tokens", str(tokens)))


@pytest.fixture(scope="session")
def models(
    tmp_path_factory: pytest.TempPathFactory,
    model_writer: Callable[..., Path],
    graph_writer: Callable[..., Path],
    write_patient_model: Callable[..., None],
) -> Path:
    """Small models, each for a status or a situation."""
    path = tmp_path_factory.mktemp("models")
    model_writer(path / "doubler" / "1" / "model.onnx")
    # Answers with its input, of any width; and with the largest number in it.
    free, largest = ("FLOAT", ["N", "width"]), ("FLOAT", ["N", 1])
    graph_writer(path / "free" / "1" / "model.onnx", {"x": free}, {"y": free}, ("Identity", "x", "y"))
    nodes = (("ReduceMax", "x", "y"),)
    graph_writer(path / "largest" / "1" / "model.onnx", {"x": free}, {"y": largest}, *nodes, axes=[1], keepdims=1)
    # Classifies a picture of three pixels: each is the score of its class.
    image, row = ("UINT8", ["N", 1, 3, 1]), ("FLOAT", ["N", 3])
    nodes = ("Flatten", "image", "flat"), ("Cast", "flat", "scores")
    graph_writer(path / "colours" / "1" / "model.onnx", {"image": image}, {"scores": row}, *nodes, to=1)
    (path / "colours" / "labels.txt").write_text("red\ngreen\nblue\n")
    (path / "colours" / "config.pbtxt").write_text(
        'max_batch_size: 4 output { name: "scores" data_type: TYPE_FP32 dims: 3 label_filename: "labels.txt" }'
    )
    # Fails in the runtime: it makes a tensor of the size that it is sent.
    size, made = {"x": ("INT64", ["N"])}, {"y": ("FLOAT", ["size"])}
    graph_writer(path / "hungry" / "1" / "model.onnx", size, made, ("ConstantOfShape", "x", "y"))
    # Wait for company: of one more request; of 99 more, with room for all, for one or for four.
    write_patient_model(path / "patient", rows=2)
    write_patient_model(path / "roomy", rows=100, max_queue_size=4000)
    write_patient_model(path / "narrow", rows=100, max_queue_size=1)
    write_patient_model(path / "crowded", rows=100, max_queue_size=4)
    (path / "damaged" / "1").mkdir(parents=True)
    (path / "damaged" / "1" / "model.onnx").write_bytes(b"damaged")
    return path


@pytest.fixture(scope="session")
def launch(transport: str, security: Security) -> Callable[..., Any]:
    """Starts a server on a repository, with any further arguments, for the length of a `with`."""

    @contextmanager
    def start(run: Callable[..., Any], repository: Path, *args: str) -> Iterator[Served]:
        served = Served(run(repository, *security.flags, *args), transport, security)
        try:
            yield served
        finally:
            served.close()

    return start


@pytest.fixture(scope="session")
def served(start_session_server: Callable[..., Any], launch: Any, models: Path) -> Iterator[Served]:
    """A server with everything switched on, which takes messages of up to 1 MiB; all tests of the contract share it."""
    with launch(
        start_session_server,
        models,
        *("--no-exit-on-error", "--model-control-mode", "explicit", "--load-models", "*"),
        *("--system-shared-memory", "--max-message-mib", "1", "--stream-window", str(WINDOW)),
    ) as one:
        yield one


@pytest.fixture
def serve(start_server: Callable[..., Any], launch: Any) -> Iterator[Callable[..., Served]]:
    """Starts a server of a test's own, with any further arguments."""
    with ExitStack() as servers:
        yield lambda repository, *args: servers.enter_context(launch(start_server, repository, *args))


@pytest.fixture
def forward() -> Iterator[Callable[..., Forwarder]]:
    """Starts a simulated Kubernetes Service in front of the given addresses."""
    with ExitStack() as forwarders:
        yield lambda *targets: forwarders.enter_context(closing(Forwarder(*targets)))
