"""The addresses that a server may listen on without TLS and tokens."""

import socket
from pathlib import Path
from typing import Any

import pytest

from pixelserve_server.access.exposure import check_exposure
from pixelserve_server.errors import ConfigurationError
from pixelserve_server.settings import Settings

TLS: dict[str, Any] = {"tls_cert": Path("crt"), "tls_key": Path("key")}
TOKENS: dict[str, Any] = {"tokens": Path("tokens")}
MUTUAL = TLS | {"tls_client_ca": Path("ca")}


def settings(host: str, **fields: Any) -> Settings:
    return Settings(model_repository=Path("models"), host=host, **fields)


LOOPBACK = ["127.0.0.1", "127.8.9.1", "localhost", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "127.1", "0x7f000001"]
REACHABLE = ["0.0.0.0", "::", "", "0", "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "::ffff:0.0.0.0", "3221225985"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_needs_nothing_however_it_is_written(host: str) -> None:
    try:
        socket.getaddrinfo(host, 0)
    except OSError:
        pytest.skip("this system does not know this spelling")
    assert check_exposure(settings(host)) is None
    # Where nothing is open, there is nothing to warn of.
    assert check_exposure(settings(host, insecure=True)) is None


@pytest.mark.parametrize("host", REACHABLE)
def test_any_other_address_needs_tls_and_tokens(host: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_exposure(settings(host))
    said = str(caught.value)
    assert "and there is no TLS and no tokens" in said
    assert "add --tls-cert FILE --tls-key FILE and --tokens FILE (docs/security.md)" in said
    assert "listen on 127.0.0.1, or add --insecure" in said
    assert check_exposure(settings(host, **TLS, **TOKENS)) is None


@pytest.mark.parametrize(
    ("fields", "missing", "remedy"),
    [
        (TLS, "there is no tokens;", "add --tokens FILE (docs"),
        (TOKENS, "there is no TLS;", "add --tls-cert FILE --tls-key FILE (docs"),
    ],
    ids=["TLS only", "tokens only"],
)
def test_what_is_missing_is_named(fields: dict[str, Any], missing: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_exposure(settings("0.0.0.0", **fields))
    assert missing in str(caught.value)
    assert remedy in str(caught.value)


def test_certificates_of_clients_stand_in_for_tokens() -> None:
    assert check_exposure(settings("0.0.0.0", **MUTUAL)) is None
    assert check_exposure(settings("0.0.0.0", **MUTUAL, **TOKENS)) is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "other machines can reach 0.0.0.0 without TLS and without tokens"),
        (TOKENS, "other machines can reach 0.0.0.0 without TLS"),
        (TLS, "other machines can reach 0.0.0.0 without tokens"),
        (TLS | TOKENS, None),
    ],
    ids=["nothing", "tokens", "TLS", "both"],
)
def test_insecure_says_what_is_open(fields: dict[str, Any], said: str | None) -> None:
    assert check_exposure(settings("0.0.0.0", insecure=True, **fields)) == said


def test_a_name_is_judged_by_what_it_resolves_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*addresses: str) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    resolve("127.0.0.1", "::1")
    assert check_exposure(settings("here.example")) is None
    for addresses in (("192.0.2.7",), ("127.0.0.1", "192.0.2.7"), ("fe80::7%eth0",)):
        resolve(*addresses)
        with pytest.raises(ConfigurationError, match=rf"--host here\.example \({addresses[-1]}\) can be reached"):
            check_exposure(settings("here.example"))
    # A name that only looks like it.
    resolve("192.0.2.7")
    with pytest.raises(ConfigurationError, match=r"--host localhost \(192\.0\.2\.7\)"):
        check_exposure(settings("localhost"))


@pytest.mark.parametrize("host", ["256.256.256.256", "no host", "a..b", "x" * 70, "ü" * 64])
def test_a_host_that_does_not_exist_is_named(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    if host.isascii() and len(host) < 64:
        # Without asking a name server.
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(ConfigurationError, match=r"--host .* is not an address of this machine: ."):
        check_exposure(settings(host, insecure=True))
