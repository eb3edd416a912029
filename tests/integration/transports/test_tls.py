"""TLS on every transport: protocols, client certificates, mismatched clients, and renewals."""

import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from certificates import CertificateAuthority, Issued

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc

pytestmark = pytest.mark.slow

TIMEOUT_S = 60
REQUEST = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
HTTP_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Secured:
    """A server with certificates in its own folder, and its clients."""

    def __init__(
        self, start: Callable[..., Any], repository: Path, folder: Path, authority: CertificateAuthority
    ) -> None:
        self._start, self._repository = start, repository
        self.authority = authority
        self.files = {name: folder / name for name in ("tls.crt", "tls.key", "ca.crt")}
        folder.mkdir()
        self.renew(authority.issue("first"))
        self.files["ca.crt"].write_bytes(authority.pem)
        self.process: Any = None

    def start(self, *flags: str, mutual: bool = False) -> None:
        flags = ("--tls-cert", str(self.files["tls.crt"]), "--tls-key", str(self.files["tls.key"]), *flags)
        if mutual:
            flags = (*flags, "--tls-client-ca", str(self.files["ca.crt"]))
        self.process = self._start(self._repository, *flags)

    def renew(self, issued: Issued) -> None:
        """Puts another certificate into place, each file in one step."""
        for name, content in (("tls.crt", issued.pem), ("tls.key", issued.key_pem)):
            new = self.files[name].with_suffix(".new")
            new.write_bytes(content)
            new.rename(self.files[name])

    def addresses(self) -> dict[str, tuple[str, int]]:
        """Returns where the ports are."""
        found = {"grpc": self.process.grpc, "http": urlsplit(self.process.http).netloc}
        return {name: (netloc.rpartition(":")[0], int(netloc.rpartition(":")[2])) for name, netloc in found.items()}

    def context(self, client: Issued | None = None, *protocols: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.path))
        if protocols:
            context.set_alpn_protocols(list(protocols))
        if client:
            context.load_cert_chain(client.cert, client.key)
        return context

    @contextmanager
    def connected(self, port: str, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
        with (
            socket.create_connection(self.addresses()[port], timeout=TIMEOUT_S) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as connection,
        ):
            yield connection

    def presented(self, port: str) -> str:
        """Returns the name in the certificate that a new connection gets."""
        with self.connected(port, self.context(None, "h2", "http/1.1")) as connection:
            (((_, name),),) = connection.getpeercert()["subject"]
            return str(name)

    def channel(self, client: Issued | None = None, **options: int) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(
            self.authority.pem, client.key_pem if client else None, client.pem if client else None
        )
        pairs = [("grpc.use_local_subchannel_pool", 1), *((f"grpc.{name}", value) for name, value in options.items())]
        return grpc.secure_channel(self.process.grpc, credentials, pairs)

    def get(self, client: Issued | None = None) -> int:
        """Returns the status of a GET on a new connection."""
        connection = http.client.HTTPSConnection(
            *self.addresses()["http"], timeout=TIMEOUT_S, context=self.context(client)
        )
        try:
            connection.request("GET", "/v2/health/live")
            return connection.getresponse().status
        finally:
            connection.close()

    def figure(self, name: str) -> float:
        with urllib.request.urlopen(self.process.metrics, timeout=TIMEOUT_S) as page:
            text = page.read().decode()
        (found,) = re.findall(rf"^pixelserve_tls_{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found)

    def said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.process.events() if line["event"] == event]


@pytest.fixture
def secured(
    start_server: Callable[..., Any],
    doubler_repository: Path,
    tmp_path: Path,
    certificate_authority: CertificateAuthority,
) -> Secured:
    return Secured(start_server, doubler_repository, tmp_path / "tls", certificate_authority)


def is_live(channel: grpc.Channel) -> bool:
    stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
    return bool(stub.ServerLive(pb.ServerLiveRequest(), timeout=TIMEOUT_S).live)


def refusal_of(channel: grpc.Channel) -> grpc.RpcError:
    with channel, pytest.raises(grpc.RpcError) as caught:
        is_live(channel)
    return caught.value


def test_tls_1_2_and_1_3_are_spoken_and_nothing_older(secured: Secured) -> None:
    secured.start()
    for port in ("grpc", "http"):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = secured.context(None, "h2")
            context.minimum_version = context.maximum_version = version
            with secured.connected(port, context) as connection:
                assert connection.version() == version.name.replace("_", ".")
        with secured.connected(port, secured.context(None, "h2")) as connection:
            assert connection.version() == "TLSv1.3"
        context = secured.context(None, "h2")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        # Or this machine's own library would not even ask.
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(OSError), secured.connected(port, context):  # noqa: PT011  a reset, or an alert
            pass


def test_both_sides_agree_on_a_protocol_by_alpn(secured: Secured, transport: str) -> None:
    secured.start()
    ports = ["http"] if transport == "grpcio" else ["grpc", "http"]
    for port in ports:
        for offered, taken in (("h2", "h2"), ("http/1.1", "http/1.1")):
            with secured.connected(port, secured.context(None, offered)) as connection:
                assert connection.selected_alpn_protocol() == taken
    for port in ("grpc", "http"):
        with secured.connected(port, secured.context(None, "http/1.1", "h2")) as connection:
            assert connection.selected_alpn_protocol() == "h2"


def test_the_start_up_line_says_what_is_spoken(secured: Secured) -> None:
    secured.start("--metrics-tls", mutual=True)
    assert secured.process.fields["tls"] == "mutual"
    assert secured.process.http.startswith("https://")
    assert secured.process.metrics.startswith("https://")
    with urllib.request.urlopen(secured.process.metrics, timeout=TIMEOUT_S, context=secured.context()) as page:
        assert b"pixelserve_tls_certificate_expiry_timestamp_seconds" in page.read()


def test_a_pair_that_openssl_signed_itself_in_one_line_is_served(secured: Secured, tmp_path: Path) -> None:
    # Of another library than the tests', with its defaults: it says that it is a CA.
    openssl = shutil.which("openssl")
    assert openssl
    made = [tmp_path / "self.key", tmp_path / "self.crt"]
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(made[0]), "-out", str(made[1])]
    subprocess.run(command, check=True, capture_output=True)
    secured.renew(Issued(made[1], made[0]))
    secured.start()
    with grpc.secure_channel(secured.process.grpc, grpc.ssl_channel_credentials(made[1].read_bytes())) as channel:
        assert is_live(channel)


def test_only_clients_with_a_certificate_of_the_ca_are_served(
    secured: Secured, new_certificate_authority: Callable[..., CertificateAuthority]
) -> None:
    secured.start(mutual=True)
    good = secured.authority.issue("client", hosts=())
    hour = timedelta(hours=1)
    bad = {
        "none": None,
        "another CA's": new_certificate_authority("another").issue("client"),
        "expired": secured.authority.issue("expired", starts=-2 * hour, ends=-hour),
        "not valid yet": secured.authority.issue("early", starts=hour),
        "version 1": secured.authority.issue("old", version_1=True),
        "for servers only": secured.authority.issue("server only", for_clients=False),
    }
    with secured.channel(good) as channel:
        assert is_live(channel)
        for name, client in bad.items():
            code = refusal_of(secured.channel(client)).code()
            assert code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED), name
            with pytest.raises(OSError):  # noqa: PT011  an alert, after which the connection may be reset
                secured.get(client)
            # Other clients are unaffected.
            assert is_live(channel)
            assert secured.get(good) == 200


def read_all(connection: socket.socket) -> bytes:
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found


def test_plain_text_to_an_encrypted_port_ends_at_once_and_affects_no_one_else(secured: Secured) -> None:
    secured.start()
    for address in secured.addresses().values():
        for sent in (REQUEST, HTTP_2 + bytes(9)):
            with socket.create_connection(address, timeout=TIMEOUT_S) as connection:
                connection.sendall(sent)
                # An alert or nothing; and not an answer.
                assert read_all(connection)[:1] in (b"", b"\x15")
    assert refusal_of(grpc.insecure_channel(secured.process.grpc)).code() is grpc.StatusCode.UNAVAILABLE
    assert secured.get() == 200


def test_tls_to_a_plain_port_ends_within_the_handshakes_time_and_affects_no_one_else(
    start_server: Callable[..., Any], doubler_repository: Path, secured: Secured
) -> None:
    secured.process = start_server(doubler_repository, "--handshake-timeout-s", "0.5", "--idle-body-timeout-s", "0.5")
    for port in ("grpc", "http"):
        with pytest.raises(OSError), secured.connected(port, secured.context(None, "h2")):  # noqa: PT011
            pass
    with grpc.insecure_channel(secured.process.grpc) as channel:
        assert is_live(channel)


def test_a_renewed_certificate_is_presented_and_no_call_is_lost(
    secured: Secured, make_request: Callable[..., pb.ModelInferRequest], eventually: Callable[..., None]
) -> None:
    """Timeline: 1. callers call without a pause; 2. five times the certificate changes, and is presented on both ports;
    3. they go on for a while."""
    secured.start()
    stop = threading.Event()
    answered, lost = Counter[int](), list[str]()

    def call(number: int, channel: grpc.Channel) -> None:
        infer = inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        while not stop.is_set():
            try:
                infer(make_request(), timeout=TIMEOUT_S)
                answered[number] += 1
            except grpc.RpcError as error:
                # The client knows that such a call was not begun, makes it again by itself, and on a busy machine may
                # send it a second time to the connection that is ending; more than once it does not try.
                if "GOAWAY received" not in error.details():
                    lost.append(f"{error.code().name}: {error.details()}")

    channels = [secured.channel() for _ in range(2)]
    callers = [threading.Thread(target=call, args=(number, channels[number % 2])) for number in range(4)]
    for caller in callers:
        caller.start()
    try:
        for name in ("second", "third", "fourth", "fifth", "sixth"):
            secured.renew(secured.authority.issue(name))
            for port in ("grpc", "http"):
                eventually(lambda port=port, name=name: secured.presented(port) == name, timeout_s=TIMEOUT_S)
            before = dict(answered)
            eventually(
                lambda before=before: all(answered[each] > before.get(each, 0) + 5 for each in range(4)),
                timeout_s=TIMEOUT_S,
            )
    finally:
        stop.set()
        for caller in callers:
            caller.join()
        for channel in channels:
            channel.close()
    assert lost == []
    assert secured.figure('reloads_total{outcome="renewed"}') == 5
    assert [line["subject"] for line in secured.said("certificate renewed")][-1] == "CN=sixth"


def test_a_stream_that_is_open_goes_on_through_a_renewal(
    secured: Secured, make_request: Callable[..., pb.ModelInferRequest], eventually: Callable[..., None]
) -> None:
    secured.start()
    asked = threading.Semaphore(0)
    over = threading.Event()

    def requests() -> Iterator[pb.ModelInferRequest]:
        while asked.acquire() and not over.is_set():
            yield make_request()

    with secured.channel() as channel:
        answers = inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(requests(), timeout=TIMEOUT_S)
        asked.release()
        assert not next(answers).error_message
        secured.renew(secured.authority.issue("second"))
        eventually(lambda: secured.presented("grpc") == "second", timeout_s=TIMEOUT_S)
        for _ in range(10):
            asked.release()
            assert not next(answers).error_message
        over.set()
        asked.release()
        assert list(answers) == []


def test_an_idle_http_connection_is_ended_and_not_left_hanging(
    secured: Secured, eventually: Callable[..., None]
) -> None:
    secured.start()
    with secured.connected("http", secured.context(None, "http/1.1")) as connection:
        connection.sendall(REQUEST)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        secured.renew(secured.authority.issue("second"))
        eventually(lambda: secured.presented("http") == "second", timeout_s=TIMEOUT_S)
        assert connection.recv(1) == b""
    assert secured.get() == 200


def test_files_that_cannot_be_used_change_nothing_but_the_figures(
    secured: Secured, eventually: Callable[..., None]
) -> None:
    secured.start()
    assert secured.figure("last_reload_successful") == 1
    with secured.channel() as channel:
        assert is_live(channel)
        good = secured.files["tls.crt"].read_bytes()
        secured.files["tls.crt"].write_bytes(good[:100])
        eventually(lambda: secured.figure("last_reload_successful") == 0, timeout_s=TIMEOUT_S)
        assert is_live(channel)
        assert {secured.presented(port) for port in ("grpc", "http")} == {"first"}
        (line,) = secured.said("certificate not renewed")
        assert (line["level"], "is cut off" in str(line["reason"])) == ("error", True)
        secured.files["tls.crt"].write_bytes(good)
        eventually(lambda: secured.figure("last_reload_successful") == 1, timeout_s=TIMEOUT_S)
        assert is_live(channel)


def test_a_ca_that_is_taken_away_keeps_its_clients_out(
    secured: Secured,
    new_certificate_authority: Callable[..., CertificateAuthority],
    eventually: Callable[..., None],
) -> None:
    secured.start(mutual=True)
    old, other = secured.authority.issue("old"), new_certificate_authority("new CA")
    new = other.issue("new")
    assert secured.get(old) == 200
    secured.files["ca.crt"].write_bytes(other.pem)
    eventually(lambda: secured.figure('reloads_total{outcome="renewed"}') == 1, timeout_s=TIMEOUT_S)
    with pytest.raises(OSError):  # noqa: PT011
        secured.get(old)
    assert refusal_of(secured.channel(old)).code() is grpc.StatusCode.UNAVAILABLE
    assert secured.get(new) == 200
    with secured.channel(new) as channel:
        assert is_live(channel)


def test_a_server_whose_certificate_has_expired_starts_with_a_warning(secured: Secured) -> None:
    hour = timedelta(hours=1)
    secured.renew(secured.authority.issue("past", starts=-2 * hour, ends=-hour))
    secured.start()
    (line,) = secured.said("certificate doubtful")
    assert line["level"] == "warning"
    assert "CN=past expired at" in str(line["reason"])
    assert json.dumps(line)


@pytest.mark.parametrize("wrong", ["swapped", "missing"])
def test_a_server_whose_files_cannot_be_used_does_not_start(
    secured: Secured, failing_serve: Callable[..., Any], doubler_repository: Path, transport: str, wrong: str
) -> None:
    cert, key = secured.files["tls.crt"], secured.files["tls.key"]
    if wrong == "swapped":
        cert, key = key, cert
    else:
        key.unlink()
    failure = failing_serve(
        *("--model-repository", str(doubler_repository), "--transport", transport),
        *("--tls-cert", str(cert), "--tls-key", str(key)),
    )
    assert failure.code == 1
    said = {"swapped": f"--tls-cert {cert}: holds a private key", "missing": f"--tls-key {key}: there is no such file"}
    assert said[wrong] in failure.message
