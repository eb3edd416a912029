"""Pushing to and pulling from a registry with tokens, redirects, and every kind of failure."""

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pixelserve.oci import http as oci_http
from pixelserve.oci import writing
from pixelserve.pull.errors import DamagedError, PullError, SourceFailed, SourceRefused, SourceUnavailable, UsageError
from pixelserve.pull.mirror import Mirrored, Wanted, mirror

PASSWORD = base64.b64encode(b"deploy:secret").decode()
Handler = http.server.BaseHTTPRequestHandler


@dataclass
class FakeRegistry:
    """Keeps blobs and manifests in memory; a token is needed, and the password for it if there is one."""

    address: str = ""
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and authorization of each request."""
    password: str = ""
    blobs_at: str = ""
    """Where blobs are redirected to; empty: they are here."""
    faults: dict[str, Callable[[Handler], None]] = field(default_factory=dict)
    """Overrides of answers, by method and the start of the path's last part."""

    def answer(self, request: Handler) -> None:
        path, sent = urlsplit(request.path), request.headers.get("Authorization", "")
        self.seen.append((request.command, path.path, sent))
        last = path.path.rpartition("/")[2]
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        for start, fault in self.faults.items():
            if f"{request.command} {last}".startswith(start):
                return fault(request)
        if path.path == "/token":
            is_known = sent == (f"Basic {self.password}" if self.password else "")
            return self.send(request, 200, b'{"token": "t"}') if is_known else self.send(request, 401)
        if not path.path.startswith("/stored/") and sent != "Bearer t":
            realm = f'Bearer realm="http://{self.address}/token",service="fake",scope="repository:models/digits:pull"'
            return self.send(request, 401, headers={"WWW-Authenticate": realm})
        return getattr(self, f"_{request.command.lower()}")(request, path.path, last, body)

    def _get(self, request: Handler, path: str, last: str, _: bytes) -> None:
        if "/manifests/" in path and last in self.manifests:
            kind, data = self.manifests[last]
            return self.send(request, 200, data, {"Content-Type": kind})
        if last not in self.blobs:
            return self.send(request, 404, b'{"errors": [{"code": "UNKNOWN", "message": "no such thing"}]}')
        if self.blobs_at and not path.startswith("/stored/"):
            return self.send(request, 307, headers={"Location": f"{self.blobs_at}/stored/{last}?signature=x"})
        return self.send(request, 200, self.blobs[last])

    _head = _get

    def _post(self, request: Handler, *_: object) -> None:
        self.send(request, 202, headers={"Location": "/upload/1?state=x"})

    def _put(self, request: Handler, path: str, last: str, body: bytes) -> None:
        if "/manifests/" in path:
            self.manifests[last] = request.headers["Content-Type"], body
            self.manifests[f"sha256:{hashlib.sha256(body).hexdigest()}"] = self.manifests[last]
        else:
            digest = parse_qs(urlsplit(request.path).query)["digest"][0]
            assert digest == f"sha256:{hashlib.sha256(body).hexdigest()}"
            self.blobs[digest] = body
        self.send(request, 201)

    def send(self, request: Handler, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        request.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)


def _bound(call: Callable[[Handler], None]) -> Callable[[Handler], None]:
    return lambda request: call(request)


@pytest.fixture
def make_registry() -> Iterator[Callable[[], FakeRegistry]]:
    """Starts registries on loopback."""
    servers = []

    def start() -> FakeRegistry:
        registry = FakeRegistry()

        methods = {f"do_{method}": registry.answer for method in ("GET", "HEAD", "POST", "PUT")}
        quiet: dict[str, Any] = {"log_message": lambda *_: None}
        answers = type("Answers", (Handler,), quiet | {name: _bound(call) for name, call in methods.items()})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), answers)
        registry.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return registry

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod's environment: no home, and a proxy that loopback must not be asked through."""
    for name in ("HOME", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")


@pytest.fixture
def registry(make_registry: Callable[[], FakeRegistry]) -> FakeRegistry:
    """A registry without an image."""
    return make_registry()


@pytest.fixture
def push(registry: FakeRegistry, write: Callable[..., writing.Written]) -> Callable[..., writing.Written]:
    """Pushes a version."""
    return lambda version=1: write(version, f"docker://{registry.address}/models/digits:{version}")


@pytest.fixture
def pull(registry: FakeRegistry, tmp_path: Path) -> Callable[..., Mirrored]:
    """Pulls a tag or digest into a repository."""
    url = f"oci://{registry.address}/models/digits"
    return lambda suffix=":1", **wanted: mirror(Wanted(url + suffix, tmp_path / "target", **wanted))


def test_a_pushed_version_is_pulled_by_its_tag_and_by_its_digest(
    push: Callable[..., Any], pull: Callable[..., Mirrored], registry: FakeRegistry
) -> None:
    written = push()
    assert written.pinned == f"oci://{registry.address}/models/digits@{written.digest}"
    assert pull().plan.versions == {1: "added"}
    assert pull(f"@{written.digest}").plan.versions == {1: "unchanged"}
    # The tag is last, so it never refers to missing blobs.
    assert [path for method, path, _ in registry.seen if method == "PUT"][-1].endswith("/manifests/1")


def test_what_the_registry_has_is_not_sent_again(push: Callable[..., Any], registry: FakeRegistry) -> None:
    push()
    uploads = [path for method, path, _ in registry.seen if method == "POST"]
    push()
    assert [path for method, path, _ in registry.seen if method == "POST"] == uploads


@pytest.mark.parametrize("key", ["{host}", "https://{host}", "https://{host}/v2/"])
@pytest.mark.parametrize("entry", [{"auth": PASSWORD}, {"username": "deploy", "password": "secret"}])
@pytest.mark.parametrize("variable", ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "HOME"])
def test_the_password_of_a_pull_secret_is_used_for_the_token(
    push: Callable[..., Any],
    registry: FakeRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    entry: dict[str, str],
    variable: str,
) -> None:
    registry.password = PASSWORD
    folder = tmp_path / ".docker"
    folder.mkdir()
    others = {"registry.example.org": {"auth": "b3RoZXI6b3RoZXI="}}
    (folder / "config.json").write_text(json.dumps({"auths": {**others, key.format(host=registry.address): entry}}))
    places = {"DOCKER_CONFIG": folder, "REGISTRY_AUTH_FILE": folder / "config.json", "HOME": tmp_path}
    with pytest.raises(SourceRefused, match="no permission"):
        push()
    monkeypatch.setenv(variable, str(places[variable]))
    push()
    assert {sent for method, path, sent in registry.seen if path == "/token" and sent} == {f"Basic {PASSWORD}"}


@pytest.mark.parametrize("text", ["", "[]", '{"auths": ["a"]}', '{"auths": {"a": []}}', "{"])
def test_an_invalid_password_file_is_named(
    push: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "auth.json").write_text(text)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    if text == '{"auths": {"a": []}}':
        # Another registry's entry is not ours to judge.
        push()
        return
    with pytest.raises(UsageError, match=r"auth\.json: .*expected the JSON that docker login writes"):
        push()


def test_a_token_stays_with_the_registry_that_gave_it(
    push: Callable[..., Any],
    pull: Callable[..., Mirrored],
    registry: FakeRegistry,
    make_registry: Callable[[], FakeRegistry],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Registries keep blobs elsewhere, and redirect with a signed URL."""
    push()
    store = make_registry()
    store.blobs, registry.blobs_at = registry.blobs, f"http://{store.address}"
    assert pull().plan.versions == {1: "added"}
    assert [(method, sent) for method, _, sent in store.seen] == [("GET", "")]


def answer(status: int, body: bytes = b"", **headers: str) -> Callable[[Handler], None]:
    return lambda request: FakeRegistry().send(request, status, body, headers)


def cut(request: Handler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(b"x" * 10)


def hang_up(request: Handler) -> None:
    request.close_connection = True


@pytest.mark.parametrize(
    ("fault", "does", "error", "problem"),
    [
        ("GET 1", answer(404, b"not JSON"), SourceRefused, "no such image"),
        ("GET 1", answer(403), SourceRefused, "no permission"),
        ("GET 1", answer(429), SourceFailed, "answered 429"),
        ("GET 1", answer(500, b'{"errors": []}'), SourceFailed, "answered 500"),
        ("GET 1", answer(401), SourceRefused, "needs a password"),
        ("GET 1", answer(401, **{"WWW-Authenticate": "Basic"}), SourceRefused, "needs a password"),
        ("GET 1", answer(401, **{"WWW-Authenticate": 'Bearer realm="file:///etc/passwd"'}), SourceFailed, "not HTTPS"),
        ("GET 1", answer(401, **{"WWW-Authenticate": 'Bearer realm="http://h/"'}), SourceFailed, "not HTTPS"),
        ("GET 1", answer(302, Location="file:///etc/passwd"), SourceFailed, "answered 302"),
        ("GET 1", answer(200, b"x" * (4 << 20) + b"x"), DamagedError, "more than 4,194,304 bytes"),
        ("GET 1", answer(200, b"{}"), DamagedError, "not an image"),
        ("GET 1", hang_up, SourceUnavailable, "does not answer"),
        ("GET token", answer(200, b"no"), SourceFailed, "not JSON"),
        ("GET token", answer(200, b"[]"), SourceFailed, "without a token"),
        ("GET token", answer(200, b'{"token": 1}'), SourceFailed, "without a token"),
        ("GET token", answer(500), SourceFailed, "answered 500"),
        ("GET sha256", answer(200, b"other"), DamagedError, "sent other content"),
        ("GET sha256", cut, DamagedError, "sent other content"),
    ],
)
def test_a_registrys_fault_is_reported_and_changes_nothing(
    push: Callable[..., Any],
    pull: Callable[..., Mirrored],
    registry: FakeRegistry,
    tmp_path: Path,
    fault: str,
    does: Callable[[Handler], None],
    error: type[PullError],
    problem: str,
) -> None:
    push()
    registry.faults[fault] = does
    with pytest.raises(error, match=problem):
        pull()
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("damage", ["cut", "longer", "other", "stalled"])
def test_a_layer_that_does_not_arrive_whole_changes_nothing(
    push: Callable[..., Any],
    pull: Callable[..., Mirrored],
    registry: FakeRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    push()
    digest, data = max(registry.blobs.items(), key=lambda item: len(item[1]))
    monkeypatch.setattr(oci_http, "_SILENCE_S", 0.5)
    over = threading.Event()

    def stall(request: Handler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[:100])
        over.wait(30)

    bodies = {"longer": data + b"x", "other": data[:-1] + b"x", "cut": data[:-1]}
    registry.faults[f"GET {digest}"] = stall if damage == "stalled" else answer(200, bodies[damage])
    try:
        with pytest.raises(PullError) as failed:
            pull()
    finally:
        over.set()
    assert failed.value.exit_code in (1, 5, 6)
    assert list((tmp_path / "target").iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "does", "error"),
    [
        ("POST", answer(403), SourceRefused),
        ("POST", answer(202), SourceFailed),
        ("POST", answer(202, Location="http://other.example/x"), SourceFailed),
        ("PUT 1", answer(500), SourceFailed),
    ],
)
def test_a_push_that_fails_moves_no_tag(
    push: Callable[..., Any],
    registry: FakeRegistry,
    fault: str,
    does: Callable[[Handler], None],
    error: type[PullError],
) -> None:
    registry.faults[fault] = does
    with pytest.raises(error):
        push()
    assert "1" not in registry.manifests


def test_other_machines_are_contacted_over_https_only() -> None:
    assert oci_http.Connection("registry.example.org", "").base == "https://registry.example.org"
    assert oci_http.Connection("127.0.0.1.example.org:80", "").base == "https://127.0.0.1.example.org:80"
    assert oci_http.Connection("localhost:5000", "").base == "http://localhost:5000"


def test_a_redirection_from_https_to_plain_text_is_not_followed() -> None:
    request = oci_http.urllib.request.Request("https://registry.example.org/v2/")
    follow = oci_http._Redirects().redirect_request
    assert follow(request, None, 307, "", {}, "http://registry.example.org/v2/") is None  # type: ignore[arg-type]
    assert follow(request, None, 307, "", {}, "https://store.example.org/") is not None  # type: ignore[arg-type]
