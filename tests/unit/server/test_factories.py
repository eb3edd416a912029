"""The parts built from the settings."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

from pixelserve_server import factories
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
