"""HTTP requests, straight to the ASGI application: paths, headers and bodies of every route.

An input is a request as it would be on the wire, so that a person can read it.
"""

import asyncio
import json
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np

from .mutate import Mutator
from .pictures import picture_files
from .server import ANSWER_S, InProcessServer
from .target import Target

_HEADERS = ("Content-Type", "Inference-Header-Content-Length", "Content-Encoding", "Accept", "Host", "Origin")
_HEADERS += ("Authorization", "Content-Length", "Expect", "Accept-Encoding", "traceparent", "X-Request-Id", "Range")
_VALUES = ("application/json", "application/octet-stream", "multipart/form-data; boundary=x", "gzip", "deflate", "0")
_VALUES += ("-1", "99999999999999999999", "application/x-www-form-urlencoded", "image/png", "*/*", "Bearer x", "é")
_UNDECIDED = {501, 503}


def _request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    named = {"Host": "127.0.0.1", **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


JSON_SEEDS: list[tuple[str, Any]] = [
    (
        "/v2/models/doubler/infer",
        {
            "id": "42",
            "parameters": {"priority": 1, "binary_data_output": False},
            "inputs": [{"name": "values", "datatype": "FP32", "shape": [1, 4], "data": [1.5, 2, 3, 4]}],
            "outputs": [{"name": "doubled", "parameters": {"classification": 2, "binary_data": False}}],
        },
    ),
    (
        "/v2/models/text/versions/1/infer",
        {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2, 1], "data": [["a"], ["é"]]}]},
    ),
    ("/v2/repository/index", {"ready": True}),
    (
        "/v2/repository/models/text/load",
        {"parameters": {"config": '{"max_batch_size": 4}', "file:1/model.onnx": "bm8="}},
    ),
    ("/v2/repository/models/text/unload", {"parameters": {"unload_dependents": False}}),
    ("/v2/systemsharedmemory/region/region/register", {"key": "/fuzz-region", "offset": 0, "byte_size": 64}),
    ("/v2/systemsharedmemory/unregister", {}),
]
_GET = ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/doubler", "/v2/models/mnist-cnn/versions/1/config")
_GET += ("/v2/models/text/ready", "/v2/models/stats", "/v2/models/text/stats", "/docs", "/openapi.json")
_GET += ("/v2/systemsharedmemory/status", "/v2/systemsharedmemory/region/region/status", "/v1/models/mnist/metadata")
_GET += ("/", "/page/app.js", "/page/../settings.py", "/v1/models", "/v1/figures")


def _binary(head: Any, tensors: bytes) -> bytes:
    text = json.dumps(head).encode()
    size = str(len(text))
    return _request("POST", "/v2/models/doubler/infer", text + tensors, **{"Inference-Header-Content-Length": size})


def seeds() -> list[bytes]:
    """Returns good requests."""
    values = np.arange(4, dtype="<f4").tobytes()
    tensor = {"name": "values", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}
    png = picture_files()["png"]
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + png
    form = part + b'\r\n--x\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n3\r\n--x--\r\n'
    classify = "/v1/models/mnist-cnn:classify"
    return [
        *[_request("POST", path, json.dumps(body).encode()) for path, body in JSON_SEEDS],
        *[_request("GET", path) for path in _GET],
        _binary({"inputs": [tensor], "parameters": {"binary_data_output": True}}, values),
        _request("POST", classify, form, Content_Type="multipart/form-data; boundary=x"),
        _request("POST", classify + "?top_k=3&inversion=auto", png, Content_Type="image/png"),
    ]


class RestTarget(Target):
    """A request; its body comes in pieces."""

    name = "rest"
    growth_mib = 400

    def __init__(self, server: InProcessServer) -> None:
        self._server = server
        self._seeds = seeds()

    def make(self, mutator: Mutator) -> bytes:
        if mutator.chance(0.4):
            path, body = mutator.random.choice(JSON_SEEDS)
            return _request("POST", path, mutator.json(body))
        data = mutator.random.choice(self._seeds)
        head, _, body = data.partition(b"\r\n\r\n")
        chance = mutator.random.random()
        if chance < 0.3:
            name, value = mutator.random.choice(_HEADERS), mutator.random.choice((*_VALUES, mutator.word()))
            head += f"\r\n{name}: {value}".encode()
        elif chance < 0.5:
            head = mutator.text(head, (*_VALUES, *_GET, "%2e%2e%2f", "?", "&top_k=-1", "%00", "%ff", "//"))
        elif chance < 0.9:
            body = mutator.octets(body, self._seeds)
        else:
            return mutator.octets(data, self._seeds)
        return head + b"\r\n\r\n" + body

    def run(self, data: bytes) -> str:
        scope, body = as_asgi(data)
        exchange = _Exchange(scope, body)
        try:
            self._server.loop.run_until_complete(asyncio.wait_for(exchange.run(self._server.http), ANSWER_S))
        except TimeoutError:
            return f"no answer within {ANSWER_S} s"
        except Exception as error:  # noqa: BLE001  whatever it is, it is what is looked for
            return f"the application raised {error!r}"
        if "/repository/" in scope["path"]:
            self._server.restore()
        return exchange.fault() or self._server.logged()


def as_asgi(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Returns what an ASGI server makes of a request: its scope and its body."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, _, rest = first.partition(b" ")
    target, _, query = rest.rpartition(b" ")[0].partition(b"?")
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    if not any(name == b"content-length" for name, _ in headers):
        headers.append((b"content-length", str(len(body)).encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method.decode("latin-1"),
        "scheme": "http",
        "path": unquote_to_bytes(target).decode(errors="replace") or "/",
        "raw_path": target,
        "query_string": query,
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 1),
        "root_path": "",
    }, body


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: dict[str, Any], body: bytes) -> None:
        self._scope = scope
        pieces = [body[at : at + 1000] for at in range(0, len(body), 1000)] or [b""]
        self._events = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        self._events[-1]["more_body"] = False
        self._status: list[int] = []
        self._body = b""

    async def run(self, application: Any) -> None:
        await application(self._scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        return self._events.pop(0) if self._events else {"type": "http.disconnect"}

    async def _send(self, event: Any) -> None:
        if event["type"] == "http.response.start":
            self._status.append(event["status"])
        else:
            self._body += event.get("body", b"")

    def fault(self) -> str:
        """Returns what is wrong with the answer, or nothing."""
        if len(self._status) != 1:
            return f"{len(self._status)} answers"
        status = self._status[0]
        return f"{status}: {self._body[:500]!r}" if status >= 500 and status not in _UNDECIDED else ""
