"""The metrics port with TLS: protocols, slow handshakes, and clients without TLS."""

import http.client
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest
from certificates import CertificateAuthority, Issued

from pixelserve_server.failures import FailureLog
from pixelserve_server.observe.connections import MAX_CONNECTIONS
from pixelserve_server.observe.metrics import Metrics
from pixelserve_server.observe.port import MetricsServer
from pixelserve_server.transport.certificates import CertificateFiles, read_certificates, server_context

TIMEOUT_S = 30
# Longer than any test: the tests end connections themselves.
HOUR_S = 3600.0

Address = tuple[str, int]


def context_of(issued: Issued) -> ssl.SSLContext:
    return server_context(read_certificates(CertificateFiles(issued.cert, issued.key)))


class Log:
    def __init__(self) -> None:
        self.failures: list[object] = []

    def error(self, event: str, **fields: object) -> None:
        self.failures.append(fields["exc_info"])


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def start(
    certificate_authority: CertificateAuthority, log: Log
) -> Iterator[Callable[..., tuple[MetricsServer, Address]]]:
    """Serves a metrics port, with TLS unless told otherwise; nothing that comes on it may be unexpected."""
    servers: list[MetricsServer] = []

    def serve(*, tls: bool = True, timeout_s: float = HOUR_S) -> tuple[MetricsServer, Address]:
        context = context_of(certificate_authority.issue()) if tls else None
        servers.append(MetricsServer(Metrics(), lambda: True, FailureLog(log), tls=context, timeout_s=timeout_s))
        host, _, port = servers[-1].bind("127.0.0.1", 0).rpartition(":")
        return servers[-1], (host, int(port))

    yield serve
    for server in servers:
        server.close()
    assert log.failures == []


@pytest.fixture
def trusting(certificate_authority: CertificateAuthority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate_authority.path))


def ask(address: Address, context: ssl.SSLContext, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection(*address, timeout=TIMEOUT_S, context=context)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def handshaken(address: Address, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(socket.create_connection(address, timeout=TIMEOUT_S), server_hostname="localhost")


def read(connection: socket.socket) -> bytes:
    found = b""
    while part := connection.recv(65536):
        found += part
    return found


def test_pages_come_over_tls(start: Callable[..., tuple[MetricsServer, Address]], trusting: ssl.SSLContext) -> None:
    _, address = start()
    assert ask(address, trusting, "/live") == (200, b"live\n")
    status, page = ask(address, trusting, "/metrics")
    assert status == 200
    assert b"pixelserve_threads" in page
    assert ask(address, trusting, "/none")[0] == 404


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_it_speaks_tls_1_2_and_1_3(
    start: Callable[..., tuple[MetricsServer, Address]], trusting: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    _, address = start()
    trusting.minimum_version = trusting.maximum_version = version
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    with handshaken(address, trusting) as connection:
        assert connection.version() == version.name.replace("_", ".")
        assert connection.selected_alpn_protocol() == "http/1.1"


def test_a_client_learns_that_the_page_is_whole(
    start: Callable[..., tuple[MetricsServer, Address]], trusting: ssl.SSLContext
) -> None:
    _, address = start()
    raw = socket.create_connection(address, timeout=TIMEOUT_S)
    # So an end without TLS's close_notify is an error.
    with trusting.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as connection:
        connection.sendall(b"GET /live HTTP/1.0\r\n\r\n")
        assert read(connection).endswith(b"live\n")


def test_plain_http_gets_an_error_about_tls(start: Callable[..., tuple[MetricsServer, Address]]) -> None:
    _, address = start()
    with socket.create_connection(address, timeout=TIMEOUT_S) as connection:
        connection.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = read(connection)
    assert answer.startswith(b"HTTP/1.0 400 Bad Request\r\n")
    assert b"the metrics port speaks TLS only; use https://" in answer


def test_tls_is_refused_at_once_on_a_plain_http_port(
    start: Callable[..., tuple[MetricsServer, Address]], trusting: ssl.SSLContext
) -> None:
    _, address = start(tls=False)
    with pytest.raises(ssl.SSLError) as caught:
        handshaken(address, trusting)
    assert caught.value.reason == "WRONG_VERSION_NUMBER"


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00", b"\x00" * 100, b"hello\r\n"])
def test_an_endless_or_invalid_handshake_affects_no_one_else(
    start: Callable[..., tuple[MetricsServer, Address]], trusting: ssl.SSLContext, sent: bytes
) -> None:
    _, address = start()
    crowd = [socket.create_connection(address, timeout=TIMEOUT_S) for _ in range(MAX_CONNECTIONS + 5)]
    try:
        for each in crowd:
            each.sendall(sent)
        assert ask(address, trusting, "/live") == (200, b"live\n")
    finally:
        for each in crowd:
            each.close()


def test_a_handshake_that_never_ends_is_cut_off(start: Callable[..., tuple[MetricsServer, Address]]) -> None:
    _, address = start(timeout_s=0.1)
    with socket.create_connection(address, timeout=TIMEOUT_S) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00")
        assert connection.recv(1) == b""


def test_connections_after_a_renewal_get_the_new_certificate_and_open_ones_go_on(
    start: Callable[..., tuple[MetricsServer, Address]],
    trusting: ssl.SSLContext,
    certificate_authority: CertificateAuthority,
) -> None:
    server, address = start()
    with handshaken(address, trusting) as before:
        server.renew(context_of(certificate_authority.issue("renewed")))
        with handshaken(address, trusting) as after:
            (((_, name),),) = after.getpeercert()["subject"]
            assert name == "renewed"
        before.sendall(b"GET /live HTTP/1.0\r\n\r\n")
        assert read(before).endswith(b"live\n")
