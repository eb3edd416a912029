"""Models to pull, and their sources."""

import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from pixelserve.card import Card, sha256_of
from pixelserve.golden import Golden, write_golden
from pixelserve.pull.mirror import Mirrored, Wanted, mirror

CONFIG = 'name: "digits" output { name: "probabilities" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" }'


def write_version(folder: Path, content: bytes = b"a model", *, card: bool = True) -> Path:
    """Writes a version whose model file is of any bytes; it is whole, though no server could compute it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    if card:
        sha256 = sha256_of(folder / "model.onnx")
        Card(name="digits", task="image", sha256=sha256, created="2026-01-02T03:04:05Z").write(folder / "card.json")
        pixels = np.zeros((2, 3), np.float32)
        write_golden(folder / "golden.npz", Golden({"image": pixels}, {"probabilities": pixels}))
    return folder


@pytest.fixture(scope="session")
def version_writer() -> Callable[..., Path]:
    """`write_version`, for the tests."""
    return write_version


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of all files below a folder, the hidden ones too, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def contents_of() -> Callable[[Path], dict[str, bytes]]:
    """`contents`, for the tests."""
    return contents


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder at its source: two versions, config.pbtxt and labels."""
    folder = tmp_path / "source" / "digits"
    write_version(folder / "1", b"the first")
    write_version(folder / "2", b"the second")
    (folder / "config.pbtxt").write_text(CONFIG)
    (folder / "labels.txt").write_text("one\ntwo\nthree\n")
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository that is not there yet."""
    return tmp_path / "models"


@pytest.fixture
def pull(repository: Path) -> Callable[..., Mirrored]:
    """Pulls from a URL or a path into the repository."""

    def pull(url: object, listener: Any = None, **wanted: Any) -> Mirrored:
        return mirror(Wanted(str(url), repository, **wanted), listener)

    return pull


@pytest.fixture
def memory() -> Iterator[Callable[[Path], str]]:
    """Copies a folder into fsspec's file system in memory, which stands for an object store; gives its URL."""
    system = fsspec.filesystem("memory")

    def put(folder: Path) -> str:
        system.put(str(folder), f"/bucket/{folder.name}", recursive=True)
        return f"memory://bucket/{folder.name}"

    yield put
    system.rm("/bucket", recursive=True)


Fault = Callable[[http.server.SimpleHTTPRequestHandler], None]


@dataclass
class WebServer:
    """Python's own web server, with its index pages, on loopback."""

    url: str
    requests: list[str] = field(default_factory=list)
    """Each request's method and path."""
    faults: dict[str, Fault] = field(default_factory=dict)
    """Overrides of answers, by method and path."""

    def answer(self, request: str, body: bytes, *, status: int = 200, length: int | None = None) -> None:
        """Answers a request with a given page; `length` is its Content-Length."""

        def say(handler: http.server.SimpleHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header("Content-Type", "text/html")
            handler.send_header("Content-Length", str(len(body) if length is None else length))
            handler.end_headers()
            handler.wfile.write(body)

        self.faults[request] = say


@pytest.fixture
def web(tmp_path: Path, model: Path) -> Iterator[WebServer]:
    """Serves the folder that the model is in."""
    served = WebServer("")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(model.parent))

        def do_GET(self) -> None:
            self._serve(super().do_GET)

        def do_HEAD(self) -> None:
            self._serve(super().do_HEAD)

        def _serve(self, serve: Callable[[], None]) -> None:
            request = f"{self.command} {self.path}"
            served.requests.append(request)
            fault = served.faults.get(request)
            serve() if fault is None else fault(self)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        server.shutdown()
        thread.join()
