"""Web pages of other sites, against a real server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

LOAD, UNLOAD = "/v2/repository/models/doubler/load", "/v2/repository/models/doubler/unload"
PAGE = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}


@pytest.fixture(scope="session")
def transport() -> str:
    """One is enough: HTTP has a separate port."""
    return "grpcio"


@pytest.fixture
def server(doubler_repository: Path, start_server: Callable[..., Any]) -> Any:
    return start_server(doubler_repository, "--model-control-mode", "explicit", "--load-models", "*")


def is_loaded(server: Any, call_http: Any) -> bool:
    return bool(call_http(server, "/v2/models/doubler/ready").status == 200)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_form_of_another_site_changes_nothing(server: Any, call_http: Any, kind: str) -> None:
    for headers, status in (({"Content-Type": kind, **PAGE}, 403), ({"Content-Type": kind}, 415), (PAGE, 403)):
        assert call_http(server, UNLOAD, b"{}", headers).status == status
    assert call_http(server, UNLOAD, b"", {"Content-Type": kind, **PAGE}).status == 403
    assert is_loaded(server, call_http)
    assert call_http(server, UNLOAD, b"").status == 200
    for headers, status in (({"Content-Type": kind, **PAGE}, 403), ({"Content-Type": kind}, 415), (PAGE, 403)):
        assert call_http(server, LOAD, b"{}", headers).status == status
    assert not is_loaded(server, call_http)
    for path in ("/v2/systemsharedmemory/region/r/register", "/v2/systemsharedmemory/unregister"):
        assert call_http(server, path, b"{}", {"Content-Type": kind}).status == 415
        assert call_http(server, path, b"", PAGE).status == 403


def test_a_page_of_another_site_computes_and_reads_nothing(server: Any, call_http: Any) -> None:
    request = {"inputs": [{"name": "values", "datatype": "FP32", "shape": [1, 4], "data": [0, 1, 2, 3]}]}
    assert call_http(server, "/v2/models/doubler/infer", request, {"Content-Type": "text/plain"}).status == 200
    for path, body in (("/v2/models/doubler/infer", request), ("/v2/repository/index", {}), ("/v2", None)):
        answer = call_http(server, path, body, {"Origin": "http://evil.example"})
        assert answer.status == 403
        assert "evil.example" in answer.error
    assert call_http(server, "/v2", headers=PAGE, method="OPTIONS").status == 403


def test_a_foreign_host_gets_nothing_but_health_on_loopback(server: Any, call_http: Any) -> None:
    foreign = {"Host": "evil.example:8000"}
    for path, body in (("/v2", None), ("/docs", None), ("/nothing", None), ("/v2/repository/index", {}), (UNLOAD, b"")):
        answer = call_http(server, path, body, foreign)
        assert answer.status == 421
        assert "--allowed-hosts" in answer.error
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert call_http(server, path, headers=foreign).status == 200
    for host in ("localhost", "localhost:1", "127.0.0.1", "[::1]:8000"):
        assert call_http(server, "/v2", headers={"Host": host}).status == 200


def test_a_listed_host_is_answered(doubler_repository: Path, start_server: Callable[..., Any], call_http: Any) -> None:
    server = start_server(doubler_repository, "--allowed-hosts", "ml.example.com,*.models.example")
    for host in ("ml.example.com:8000", "a.models.example", "localhost"):
        assert call_http(server, "/v2", headers={"Host": host}).status == 200
    assert call_http(server, "/v2", headers={"Host": "evil.example"}).status == 421
    assert call_http(server, "/v2", headers={"Origin": "https://ml.example.com"}).status == 200


def test_an_invalid_list_of_hosts_is_refused_at_start(doubler_repository: Path, failing_serve: Any) -> None:
    for wrong in ("https://ml.example.com", "", "a,,b", "a b"):
        failure = failing_serve("--model-repository", str(doubler_repository), "--allowed-hosts", wrong)
        assert failure.code != 0
        assert "allowed-hosts" in failure.message
