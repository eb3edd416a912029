"""Threads that follow something for the server's lifetime, and restart after any failure."""

import http.client
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from limits import LIMITS

from pixelserve_server.access.authorizer import Authorizer
from pixelserve_server.access.tokens_file import TokensFile
from pixelserve_server.app import Application
from pixelserve_server.deadline import Deadline
from pixelserve_server.errors import StartupError
from pixelserve_server.observe.logs import LogLevel
from pixelserve_server.observe.metrics import Metrics
from pixelserve_server.observe.port import MetricsServer
from pixelserve_server.repository.core_watcher import CoreWatcher
from pixelserve_server.repository.watcher import RepositoryWatcher
from pixelserve_server.settings import Settings
from pixelserve_server.supervised import Supervisor
from pixelserve_server.transport.h2corn import H2cornHttpPort
from pixelserve_server.transport.h2corn.preemption import Preemption
from pixelserve_server.transport.renewal import CertificateRenewal

PATIENCE_S = 20
END = SystemExit("what ends a thread")


class Watched:
    """A supervisor whose threads restart at once, and its reports."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.down: queue.Queue[tuple[str, ...]] = queue.Queue()
        self.supervisor = Supervisor(self.log_failure, lambda: self.down.put(self.supervisor.down), pause_s=0)

    def log_failure(self, error: BaseException) -> str:
        self.failures.append(error)
        return "id"

    def expect_restart(self, name: str) -> None:
        assert [self.down.get(timeout=PATIENCE_S) for _ in range(2)] == [(name,), ()]
        assert self.failures == [END]


@pytest.fixture
def watched() -> Watched:
    return Watched()


def failing_once(then: Callable[[], Any]) -> Callable[..., Any]:
    """Returns a function that ends its thread the first time, and does something else from then on."""
    has_failed: list[int] = []

    def function(*_: Any) -> Any:
        if not has_failed:
            has_failed.append(1)
            raise END
        return then()

    return function


def test_the_tokens_file_is_followed(watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = threading.Event()
    file = TokensFile(tmp_path, Authorizer(()), None, watched.log_failure, watched.supervisor, look_s=0)
    monkeypatch.setattr(file, "_state", failing_once(lambda: again.set() or ""))
    file.start()
    watched.expect_restart("tokens")
    assert again.wait(PATIENCE_S)
    file.close()


def test_certificates_are_followed(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    again, told = threading.Event(), SimpleNamespace(on_taken=lambda *_, **__: None)
    found: Any = SimpleNamespace(subject="", expires={}, warnings=())
    files: Any = SimpleNamespace()
    monkeypatch.setattr(CertificateRenewal, "look", failing_once(again.set))
    renewal = CertificateRenewal(files, found, (), told, watched.log_failure, watched.supervisor, interval_s=0)
    renewal.start()
    watched.expect_restart("certificates")
    assert again.wait(PATIENCE_S)
    renewal.close()


def test_the_repository_is_followed(watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = threading.Event()
    manager: Any = SimpleNamespace()
    watcher = RepositoryWatcher(
        tmp_path,
        manager,
        interval_s=0.01,
        log_problem=lambda _: None,
        log_failure=watched.log_failure,
        supervisor=watched.supervisor,
    )
    monkeypatch.setattr(watcher, "_look", failing_once(again.set))
    watcher.start()
    watched.expect_restart("repository watcher")
    assert again.wait(PATIENCE_S)
    watcher.stop(Deadline.after(20))


def test_the_usable_cores_are_followed(watched: Watched) -> None:
    again = threading.Event()
    looked: Any = failing_once(lambda: again.set() or 2)
    cores = iter([lambda: 2])
    watcher = CoreWatcher(
        lambda *_: None,
        watched.supervisor,
        cores=lambda: next(cores, looked)(),
        interval_s=0.001,
    )
    watcher.start()
    watched.expect_restart("cores")
    assert again.wait(PATIENCE_S)
    watcher.close()


def test_the_share_of_the_cores_is_followed(watched: Watched) -> None:
    again = threading.Event()
    looked: Any = failing_once(lambda: again.set() or 0.0)
    cpu_s = iter([lambda: 0.0])
    preemption = Preemption(lambda _: None, watched.supervisor, cpu_s=lambda: next(cpu_s, looked)())
    preemption.start()
    watched.expect_restart("preemption")
    assert again.wait(PATIENCE_S)
    preemption.close()


@pytest.fixture
def metrics_server(watched: Watched) -> Iterator[MetricsServer]:
    server = MetricsServer(Metrics(), lambda: True, watched.log_failure, watched.supervisor)
    yield server
    server.close()


def ask(address: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def test_the_metrics_port_answers(
    watched: Watched, metrics_server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = metrics_server.bind("127.0.0.1", 0)
    monkeypatch.setattr(metrics_server._server, "service_actions", failing_once(lambda: None))
    watched.expect_restart("metrics")
    assert ask(address, "/live") == b"live\n"


def refuse(_: object) -> None:
    raise RuntimeError("can't start new thread")


def test_a_metrics_port_without_a_thread_is_given_back(
    metrics_server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(StartupError, match="can't start new thread"):
        metrics_server.bind("127.0.0.1", 0)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def test_the_event_loop_of_a_port_goes_on(watched: Watched) -> None:
    port = H2cornHttpPort(LIMITS, watched.log_failure, supervisor=watched.supervisor)
    address = port.bind("127.0.0.1", 0)
    port.start(hello)
    assert port._listener._loop is not None
    port._listener._loop.call_soon_threadsafe(failing_once(lambda: None))
    watched.expect_restart("HTTP")
    assert ask(address, "/") == b"hello"
    port.stop(Deadline.after(20))


def test_a_server_follows_its_cores_while_it_serves(tmp_path: Path) -> None:
    log: Any = SimpleNamespace(warning=lambda *_, **__: None)
    application = Application(Settings(model_repository=tmp_path), log, LogLevel("error"))
    assert {"preemption", "cores"} <= {component.name for component in application._serving}


def test_a_server_is_not_ready_while_a_thread_is_down(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    log: Any = SimpleNamespace(warning=lambda event, **fields: lines.append({"event": event, **fields}))
    application = Application(Settings(model_repository=tmp_path), log, LogLevel("error"))
    application._is_complete = True
    application._threads.report("timer", is_down=True)
    assert not application.is_ready
    assert application._health.status("") == 2
    application._threads.report("timer", is_down=False)
    assert application.is_ready
    assert application._health.status("") == 1
    assert lines == [
        {"event": "threads", "down": ["timer"], "ready": False},
        {"event": "threads", "down": [], "ready": True},
    ]
