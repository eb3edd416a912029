"""The parts built from the settings."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pixelserve_server import factories, port_factories
from pixelserve_server.engine.timer import Timer
from pixelserve_server.errors import RequestError
from pixelserve_server.failures import FailureLog
from pixelserve_server.imaging.fair import Step
from pixelserve_server.settings import Settings
from pixelserve_server.supervised import Supervisor

TIMEOUT_S = 30


class Picture:
    """Work that ends only while as many others run."""

    sender, deadline_s, is_over = None, None, False
    first = Step(1, 1, 1)

    def __init__(self, together: threading.Barrier, ended: threading.Semaphore) -> None:
        self.together, self.ended = together, ended
        self.errors: list[RequestError] = []

    def run(self) -> None:
        self.together.wait(TIMEOUT_S)
        self.ended.release()

    def drop(self, error: RequestError) -> None:
        self.errors.append(error)
        self.ended.release()


def test_as_many_pictures_are_decoded_at_once_as_there_are_decode_threads() -> None:
    log_failure = FailureLog(SimpleNamespace(error=lambda *_, **__: None))
    settings = Settings(model_repository=Path("models"), decode_threads=3)
    pool = factories.decode_pool(settings, log_failure, Timer(log_failure), Supervisor(log_failure))
    together, ended = threading.Barrier(3), threading.Semaphore(0)
    pictures = [Picture(together, ended) for _ in range(3)]
    for picture in pictures:
        pool.submit(picture)
    assert all(ended.acquire(timeout=2 * TIMEOUT_S) for _ in pictures)
    assert [picture.errors for picture in pictures] == [[], [], []]
    assert pool.stop(time.monotonic() + TIMEOUT_S)


@pytest.mark.parametrize(("threads", "watched"), [(0, True), (2, False)])
def test_cores_are_watched_unless_the_number_of_threads_is_fixed(threads: int, watched: bool) -> None:
    settings = Settings(model_repository=Path("models"), intra_op_threads=threads)
    unused: Any = None
    watcher = factories.core_watcher(settings, unused, unused, Supervisor(FailureLog(None)))
    assert (watcher is not None) is watched


@pytest.mark.parametrize(
    ("transport", "http", "expected"),
    [("h2corn", True, True), ("h2corn", False, True), ("grpcio", True, True), ("grpcio", False, False)],
)
def test_packets_are_kept_from_interrupting_the_model_wherever_h2corn_reads_them(
    transport: str, http: bool, expected: bool
) -> None:
    warnings: list[tuple[str, str]] = []
    log: Any = SimpleNamespace(warning=lambda event, **fields: warnings.append((event, fields["problem"])))
    grpc_port: Any = SimpleNamespace(name=transport)
    http_port: Any = object() if http else None
    preemption = port_factories.preemption(grpc_port, http_port, log, Supervisor(FailureLog(None)))
    assert (preemption is not None) is expected
    if preemption is not None:
        preemption._on_refusal(PermissionError("forbidden"))
        assert warnings == [("packets interrupt the model", "forbidden")]
