"""Requests that web pages of other sites may have sent."""

import pytest

from pixelserve_server.api.rest.cross_site import AllowedHosts, refusal, refuse_forms
from pixelserve_server.api.rest.status import HttpError

INFER = "/v2/models/doubler/infer"
LOOPBACK = AllowedHosts("127.0.0.1", None)


def status(
    *headers: tuple[bytes, bytes],
    host: bytes = b"localhost:8000",
    method: str = "POST",
    path: str = INFER,
    hosts: AllowedHosts = LOOPBACK,
) -> int:
    """Returns the HTTP status of the refusal, 200 if there is none."""
    error = refusal(method, path, dict([(b"host", host), *headers]), hosts)
    return error.status if error else 200


@pytest.mark.parametrize(
    "host",
    [
        *(b"127.0.0.1", b"127.0.0.1:8000", b"127.1.2.3:1", b"localhost", b"LOCALHOST:8000", b"localhost.:8000"),
        *(b"[::1]", b"[::1]:8000", b"[0:0:0:0:0:0:0:1]", b"pixelserve.localhost:8000"),
    ],
)
def test_every_name_of_loopback_is_ours(host: bytes) -> None:
    assert status(host=host) == 200
    assert status(host=host, hosts=AllowedHosts("localhost", None)) == 200
    assert status(host=host, hosts=AllowedHosts("10.0.0.7", "ml.example.com")) == 200


@pytest.mark.parametrize(
    "host",
    [
        *(b"evil.example", b"evil.example:8000", b"localhost.evil.example", b"127.0.0.1.evil.example", b"10.0.0.7"),
        *(b"notlocalhost", b"[2001:db8::1]:8000", b"evil.example:80:80", b"[", b"]:8000", b"\xff\xfe", b"*"),
    ],
)
def test_a_server_on_loopback_answers_to_no_other_name(host: bytes) -> None:
    assert status(host=host) == 421
    assert status(host=host, method="GET", path="/v2") == 421


def test_a_request_without_a_host_comes_from_no_browser() -> None:
    assert refusal("POST", INFER, {}, LOOPBACK) is None


def test_other_addresses_answer_to_any_name_unless_names_are_listed() -> None:
    for listens_on in ("0.0.0.0", "::", "10.0.0.7", "ml-box"):
        assert status(host=b"anything.example", hosts=AllowedHosts(listens_on, None)) == 200
        assert status(host=b"anything.example", hosts=AllowedHosts(listens_on, "ml.example.com")) == 421


def test_the_address_that_the_server_listens_on_is_always_its_name() -> None:
    assert status(host=b"10.0.0.7:8000", hosts=AllowedHosts("10.0.0.7", "ml.example.com")) == 200
    assert status(host=b"[2001:db8:0::1]:8000", hosts=AllowedHosts("2001:db8::1", "ml.example.com")) == 200
    assert status(host=b"ML-Box:8000", hosts=AllowedHosts("ml-box", "ml.example.com")) == 200
    assert status(host=b"10.0.0.8:8000", hosts=AllowedHosts("10.0.0.7", "ml.example.com")) == 421


def test_listed_names_and_addresses_are_accepted_whatever_the_port() -> None:
    hosts = AllowedHosts("127.0.0.1", "ML.example.com, *.models.example:8000,10.0.0.7,[2001:db8::1],2001:db8::2")
    for host in (b"ml.example.com", b"ml.EXAMPLE.com.:99", b"a.models.example", b"a.b.models.example:1"):
        assert status(host=host, hosts=hosts) == 200
    for host in (b"10.0.0.7:1", b"[2001:db8::1]:1", b"[2001:db8:0:0::2]"):
        assert status(host=host, hosts=hosts) == 200
    for host in (b"models.example", b"evilmodels.example", b"x.ml.example.com", b"10.0.0.8", b"[2001:db8::3]"):
        assert status(host=host, hosts=hosts) == 421


def test_a_star_accepts_any_name_and_no_pages_but_our_own() -> None:
    hosts = AllowedHosts("127.0.0.1", "*")
    assert status(host=b"anything.example", hosts=hosts) == 200
    assert status((b"origin", b"http://evil.example"), host=b"anything.example", hosts=hosts) == 403


def test_the_names_that_were_looked_at_do_not_pile_up() -> None:
    hosts = AllowedHosts("127.0.0.1", None)
    for number in range(10_000):
        assert not hosts.accepts(b"%d.example" % number)
    assert len(hosts._known) <= 256
    assert hosts.accepts(b"localhost")


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_probes_reach_health_under_any_name(path: str) -> None:
    assert status(host=b"pixelserve.models.svc.cluster.local", method="GET", path=path) == 200
    assert status(host=b"10.1.2.3:8000", method="GET", path=path) == 200


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("site", [b"cross-site", b"same-site", b"Cross-Site", b"what-comes-next"])
@pytest.mark.parametrize("origin", [b"http://evil.example", b"null", b"http://localhost:3000", b"https://", b""])
def test_pages_of_other_sites_are_refused(method: str, site: bytes, origin: bytes) -> None:
    assert status((b"sec-fetch-site", site), (b"origin", origin), method=method) == 403
    assert status((b"sec-fetch-site", site), method=method) == 403


@pytest.mark.parametrize(
    "origin", [b"http://evil.example", b"null", b"http://localhost:3000", b"http://localhost", b"x"]
)
def test_browsers_that_do_not_name_the_site_are_judged_by_the_origin(origin: bytes) -> None:
    assert status((b"origin", origin)) == 403


def test_pages_of_this_server_may_send_requests() -> None:
    assert status((b"origin", b"http://localhost:8000")) == 200
    assert status((b"origin", b"http://LOCALHOST:8000"), (b"sec-fetch-site", b"same-origin")) == 200
    # Behind a proxy that replaces Host only the browser knows.
    assert status((b"origin", b"https://ml.example.com"), (b"sec-fetch-site", b"same-origin")) == 200
    assert status((b"sec-fetch-site", b"none"), method="GET") == 200


def test_pages_of_listed_hosts_may_send_requests() -> None:
    hosts = AllowedHosts("127.0.0.1", "ml.example.com")
    origin = (b"origin", b"https://ml.example.com:8443")
    assert status(origin, (b"sec-fetch-site", b"cross-site"), hosts=hosts) == 200
    assert status(origin, hosts=hosts) == 200
    assert status((b"origin", b"https://x.ml.example.com"), hosts=hosts) == 403


def test_a_link_from_another_site_may_be_followed_and_a_form_may_not() -> None:
    link = ((b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate"))
    assert status(*link, method="GET", path="/docs") == 200
    assert status(*link, method="POST") == 403


def test_a_refusal_says_what_came_and_which_flag_helps() -> None:
    error = refusal("GET", "/v2", {b"host": b'evil".example'}, LOOPBACK)
    assert error is not None
    assert 'Host is "evil\\".example"' in error.message
    assert "--allowed-hosts" in error.message
    error = refusal("GET", "/v2", {b"host": b"localhost", b"origin": b"http://evil.example"}, LOOPBACK)
    assert error is not None
    assert '"http://evil.example"' in error.message
    assert "--allowed-hosts" in error.message


@pytest.mark.parametrize(
    "kind",
    [
        *("text/plain", "TEXT/Plain; charset=utf-8", "application/x-www-form-urlencoded", " text/plain ;x"),
        "multipart/form-data; boundary=x",
    ],
)
def test_what_a_form_can_send_changes_nothing(kind: str) -> None:
    with pytest.raises(HttpError, match=r"application/json") as caught:
        refuse_forms({"content-type": kind, "content-length": "2"})
    assert caught.value.status == 415
    with pytest.raises(HttpError):
        # Over HTTP/2, or in chunks.
        refuse_forms({"content-type": kind})
    refuse_forms({"content-type": kind, "content-length": "0"})


@pytest.mark.parametrize(
    "kind", ["", "application/json", "application/json; charset=utf-8", "application/octet-stream"]
)
def test_what_a_page_must_ask_for_first_is_taken(kind: str) -> None:
    refuse_forms({"content-type": kind, "content-length": "2"})
    refuse_forms({"content-length": "2"})
