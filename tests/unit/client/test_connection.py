"""Addresses, round robin, TLS, tokens, health and the list of models."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from pixelserve.client import Client, NotFound, Retry, SettingsError, Tls, Unavailable, Unimplemented
from pixelserve.client.channel import Configuration, host_of


def configure(target: Any, **changes: Any) -> Configuration:
    arguments = {
        "timeout_s": 10.0, "retry": Retry(), "tls": None, "token": None, "batch_size": 32, "max_in_flight": 8
    }  # fmt: skip
    return Configuration.of(target, **{**arguments, **changes})


def by_name(address: str) -> str:
    return address.replace("127.0.0.1", "localhost")


@pytest.mark.parametrize("is_named", [False, True], ids=["one channel", "a channel each"])
def test_requests_take_turns_among_addresses(
    is_named: bool, connect: Callable[..., Any], make_server: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    servers = [make_server(), make_server()]
    addresses = [servers[0].address, by_name(servers[1].address) if is_named else servers[1].address]
    client = connect(addresses)

    def both_were_asked() -> bool:
        assert client.classify(b"7", model="m").label == "7"
        return all(server.calls for server in servers)

    # gRPC begins with the connection that is there first; once both are, they take turns strictly.
    eventually(both_were_asked)
    before = [server.calls for server in servers]
    client.classify([b"7"] * 10, model="m", timeout_s=60)
    for _ in range(9):
        client.classify(b"7", model="m")
    assert sorted(server.calls - count for server, count in zip(servers, before, strict=True)) == [5, 5]


@pytest.mark.parametrize("is_named", [False, True], ids=["one channel", "a channel each"])
def test_one_server_down_leaves_the_other_to_answer(
    is_named: bool, connect: Callable[..., Any], make_server: Callable[..., Any]
) -> None:
    up, down = make_server(), make_server()
    down.stop()
    client = connect([by_name(down.address) if is_named else down.address, up.address])
    for _ in range(10):
        assert client.classify(b"7", model="m").label == "7"
    assert up.calls == 10


def test_a_server_that_stops_leaves_the_other_to_answer(
    connect: Callable[..., Any], make_server: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    servers = [make_server(), make_server()]
    client = connect([server.address for server in servers])
    eventually(lambda: bool(client.classify(b"7", model="m").label and all(server.calls for server in servers)))
    servers[0].stop()
    for _ in range(10):
        assert client.classify(b"7", model="m").label == "7"


def test_a_dns_name_stands_for_its_addresses(connect: Callable[..., Any], fake: Any) -> None:
    assert connect("dns:///" + by_name(fake.address)).classify(b"7", model="m").label == "7"


@pytest.mark.parametrize(
    ("addresses", "targets"),
    [
        (["10.0.0.1:8001"], ["10.0.0.1:8001"]),
        (["10.0.0.1:8001", "10.0.0.2:8001"], ["ipv4:10.0.0.1:8001,10.0.0.2:8001"]),
        (["[fd00::1]:8001", "[fd00::2]:8001"], ["ipv6:[fd00::1]:8001,[fd00::2]:8001"]),
        (["10.0.0.1:8001", "[fd00::2]:8001"], ["10.0.0.1:8001", "[fd00::2]:8001"]),
        (["a:8001", "b:8001"], ["a:8001", "b:8001"]),
        (["dns:///a:8001", "10.0.0.2:8001"], ["dns:///a:8001", "10.0.0.2:8001"]),
    ],
)
def test_addresses_share_a_channel_where_grpc_has_a_name_for_them(addresses: list[str], targets: list[str]) -> None:
    assert [endpoint.target for endpoint in configure(addresses).endpoints] == targets


def test_a_shared_channel_names_one_host_and_not_the_list_of_them() -> None:
    [endpoint] = configure(["10.0.0.1:8001", "10.0.0.2:8001"]).endpoints
    assert dict(endpoint.options)["grpc.default_authority"] == "10.0.0.1:8001"


PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
# Nothing listens there: a call that goes to the proxy fails.
DEAD_PROXY = "http://127.0.0.1:1"


@pytest.fixture
def set_proxy(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets one of the variables, and no others."""
    for name in (*PROXIES, "no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    return lambda name: monkeypatch.setenv(name, DEAD_PROXY)


@pytest.mark.parametrize("variable", PROXIES)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_this_machine_is_asked_without_a_proxy(
    variable: str, host: str, set_proxy: Callable[[str], None], connect: Callable[..., Any], fake: Any
) -> None:
    set_proxy(variable)
    client = connect(fake.address.replace("127.0.0.1", host), retry=Retry(attempts=1))
    assert client.classify(b"7", model="m").label == "7"


def test_this_machines_addresses_are_asked_without_a_proxy_on_one_channel(
    set_proxy: Callable[[str], None], connect: Callable[..., Any], make_server: Callable[..., Any]
) -> None:
    set_proxy("http_proxy")
    client = connect([make_server().address, make_server().address], retry=Retry(attempts=1))
    assert client.classify(b"7", model="m").label == "7"


def test_an_error_names_the_proxy_that_was_asked(set_proxy: Callable[[str], None], connect: Callable[..., Any]) -> None:
    set_proxy("https_proxy")
    with pytest.raises(Unavailable, match="https_proxy is set, so gRPC used that proxy unless no_proxy lists"):
        connect("192.0.2.1:8001", retry=Retry(attempts=1)).classify(b"7", model="m")


def test_without_a_proxy_no_error_speaks_of_one(
    set_proxy: Callable[[str], None], connect: Callable[..., Any], fake: Any
) -> None:
    set_proxy("http_proxy")
    fake.stop()
    with pytest.raises(Unavailable) as raised:
        connect(fake.address, retry=Retry(attempts=1)).classify(b"7", model="m")
    assert "proxy" not in str(raised.value)


def test_through_a_proxy_each_address_is_a_channel(set_proxy: Callable[[str], None]) -> None:
    set_proxy("http_proxy")
    endpoints = configure(["10.0.0.1:8001", "127.0.0.1:8001"]).endpoints
    assert [(each.target, each.proxy) for each in endpoints] == [
        ("10.0.0.1:8001", "http_proxy"),
        ("127.0.0.1:8001", ""),
    ]


def test_certificates_are_checked_against_each_address_unless_a_name_is_given() -> None:
    addresses = ["10.0.0.1:8001", "10.0.0.2:8001"]
    assert len(configure(addresses, tls=Tls()).endpoints) == 2
    assert len(configure(addresses, tls=Tls(server_name="pixelserve.example")).endpoints) == 1


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("a:8001", "a"), ("a", "a"), ("dns:///a.b:8001", "a.b"), ("dns:a:8001", "a"), ("127.0.0.1:8001", "127.0.0.1"),
        ("[::1]:8001", "::1"), ("::1", "::1"), ("ipv4:127.0.0.1:8001", "127.0.0.1"), ("ipv6:[::1]:8001", "::1"),
    ],
)  # fmt: skip
def test_the_host_is_read_from_every_form_of_address(address: str, host: str) -> None:
    assert host_of(address) == host


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": ""}, "target"),
        ({"target": []}, "target"),
        ({"target": ["a:1", ""]}, "target"),
        ({"target": "http://a:1"}, "without http://"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"batch_size": 0}, "batch_size"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"token": ""}, "token"),
        ({"token": "line\nbreak"}, "token"),
        ({"tls": Tls(ca="missing.pem")}, "tls ca cannot be read: missing.pem"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        configure(**{"target": "127.0.0.1:1", **changes})


def test_a_file_without_a_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"no certificate")
    with pytest.raises(SettingsError, match="must be a PEM file"):
        Client(tls=Tls(ca=tmp_path / "ca.pem"))


def test_half_of_a_client_certificate_is_refused() -> None:
    with pytest.raises(SettingsError, match="both cert and key"):
        Tls(cert="cert.pem")


def test_a_token_is_sent_with_every_call(connect: Callable[..., Any], fake: Any) -> None:
    client = connect(fake.address, token="abc")
    client.classify(b"7", model="m")
    client.models()
    assert [each["authorization"] for each in fake.metadata] == ["Bearer abc"] * 2


@pytest.mark.parametrize("target", ["10.0.0.1:8001", "dns:///a:8001", ["127.0.0.1:1", "10.0.0.1:1"], "127.0.0.1.a:1"])
def test_a_token_never_travels_readable_to_another_machine(target: Any) -> None:
    with pytest.raises(SettingsError, match="tls") as caught:
        configure(target, token="secret")
    assert "secret" not in str(caught.value)
    assert configure(target, token="secret", tls=Tls()).metadata
    assert configure(target, token="secret", token_over_plain_text=True).metadata


@pytest.mark.parametrize("target", ["localhost:1", "127.0.0.9:1", "[::1]:1", "dns:///localhost:1", "unix:/tmp/socket"])
def test_a_token_may_travel_readable_on_this_machine(target: str) -> None:
    assert configure(target, token="secret").metadata


def test_a_client_does_not_show_its_token() -> None:
    client = Client(token="secret")
    assert "secret" not in repr(vars(client))
    client.close()


def test_tls_encrypts_and_checks_the_name(
    connect: Callable[..., Any], make_server: Callable[..., Any], certificate: Any
) -> None:
    pair = (certificate.key.read_bytes(), certificate.cert.read_bytes())
    server = make_server(grpc.ssl_server_credentials([pair]))
    tls = Tls(ca=certificate.cert, server_name="pixelserve.example")
    assert connect(server.address, tls=tls, token="abc").classify(b"7", model="m").label == "7"
    assert server.metadata[0]["authorization"] == "Bearer abc"
    for wrong in (dataclasses.replace(tls, server_name="other.example"), dataclasses.replace(tls, ca=None), None):
        with pytest.raises(Unavailable):
            connect(server.address, tls=wrong, retry=Retry(attempts=1)).classify(b"7", model="m")


def test_tls_shows_the_clients_own_certificate(
    connect: Callable[..., Any], make_server: Callable[..., Any], certificate: Any
) -> None:
    key, cert = certificate.key.read_bytes(), certificate.cert.read_bytes()
    server = make_server(grpc.ssl_server_credentials([(key, cert)], cert, require_client_auth=True))
    tls = Tls(ca=certificate.cert, server_name="pixelserve.example")
    with_own = dataclasses.replace(tls, cert=certificate.cert, key=certificate.key)
    assert connect(server.address, tls=with_own).classify(b"7", model="m").label == "7"
    with pytest.raises(Unavailable):
        connect(server.address, tls=tls, retry=Retry(attempts=1)).classify(b"7", model="m")


def test_health_says_how_the_server_and_each_service_are(connect: Callable[..., Any], fake: Any) -> None:
    client = connect(fake.address)
    assert [client.health(), client.health("draining"), client.health("never heard of")] == [
        "SERVING",
        "NOT_SERVING",
        "SERVICE_UNKNOWN",
    ]


def test_health_of_no_server_is_an_error(connect: Callable[..., Any], fake: Any) -> None:
    fake.stop()
    with pytest.raises(Unavailable) as caught:
        connect(fake.address).health()
    assert caught.value.attempts == 1


def test_models_are_listed_with_their_evidence(connect: Callable[..., Any], fake: Any) -> None:
    ready, worn = connect(fake.address).models()
    assert (ready.name, ready.version, ready.state, ready.is_ready, ready.verified) == (
        "mnist-cnn",
        "1",
        "READY",
        True,
        True,
    )
    assert (ready.card, ready.inputs[0].shape, ready.outputs[0].labels) == (
        {"task": "image"},
        (-1, 28, 28, 1),
        ("0", "1"),
    )
    assert (worn.state, worn.is_ready, worn.reason, worn.card) == (
        "UNAVAILABLE",
        False,
        "the hash is not the card's",
        None,
    )


def test_models_can_be_asked_for_by_name(connect: Callable[..., Any], fake: Any, steps: Any) -> None:
    client = connect(fake.address)
    assert [version.name for version in client.models("worn")] == ["worn"]
    fake.script.append(steps.Fail(grpc.StatusCode.NOT_FOUND))
    with pytest.raises(NotFound):
        client.models("no such model")
    fake.script.append(steps.Fail(grpc.StatusCode.UNIMPLEMENTED))
    with pytest.raises(Unimplemented):
        client.models()


def test_models_are_loaded_and_unloaded_by_name(connect: Callable[..., Any], fake: Any) -> None:
    client = connect(fake.address)
    client.load_model("a", timeout_s=5)
    client.unload_model("a")
    assert (fake.repository.loaded, fake.repository.unloaded) == (["a"], ["a"])
